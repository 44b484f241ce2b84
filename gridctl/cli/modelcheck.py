"""`gridctl model verify` and `gridctl model variant`: a model's files checked, measured and described to the grid.

Parses, calls `artifacts`, prints.
"""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.measuring import (
    BaseQualityOption,
    LengthOption,
    PythonOption,
    QualityTextOption,
    TokensOption,
    Yardstick,
    prepare,
    take,
)
from gridctl.cli.options import complete_names
from gridctl.cli.output import OutputOption, emit, note, write
from gridctl.errors import NotFoundError, UsageError
from gridctl.render.rows import Column

QUALITY_COLUMNS = (
    Column("name", "variant"),
    Column("quality", "quality", align="right"),
    Column("perplexity_base", "base's perplexity", align="right"),
    Column("perplexity", "perplexity", align="right"),
    Column("top1_agreement", "top-1 agreement", align="right", text=lambda share: f"{share:.2%}"),
    Column("kl_nats", "KL (nats)", align="right"),
    Column("predictions", "predictions", align="right"),
)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The model's folder.")],
    tensor_parallel: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Check that N engines can share it out, too.")
    ] = 1,
    base: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The model it was made of; for --quality-text.")
    ] = None,
    quality_text: QualityTextOption = None,
    text_tokens: TokensOption = 4096,
    window: LengthOption = 512,
    base_quality: BaseQualityOption = 1.0,
    python: PythonOption = None,
    output: OutputOption = "table",
) -> None:
    """Check a model's files: headers, index, codes and scales against config.json, and what engines fuse.

    With --quality-text and --base, its answers are compared with the base's, and the score goes into its record.

    Example:
      gridctl model verify models/llama-w4 --tensor-parallel 4
      gridctl model verify models/llama-fp8 --base models/llama --quality-text traffic.txt --python ml/bin/python
    """
    from gridctl.artifacts.checkpoint import read_checkpoint
    from gridctl.artifacts.verifying import verify as check

    if (quality_text is None) != (base is None):
        raise UsageError(
            "quality is measured on a text against a base", where="--quality-text", fix="give --base and --quality-text"
        )
    found = check(folder, tensor_parallel)
    sound = f"{folder}: sound; {len(found.tensors)} tensors, {found.total_bytes:,} bytes in {len(found.shards)} files"
    if base is None or quality_text is None:
        note(sound)
        return
    source = read_checkpoint(base)
    yardstick = Yardstick(quality_text, text_tokens, window, base_quality, python)
    measuring = prepare(yardstick, source, is_quantized=bool(found.config.get("quantization_config")))
    score, measured = take(measuring, source, folder)
    row = {"name": folder.name, "quality": score, **measured.measured}
    emit([row], QUALITY_COLUMNS, output, kind="VariantQuality", single=True)
    note(sound)


def variant(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The variant's folder.")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model it is a variant of.", autocompletion=complete_names("model"))
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the variant; from its record by default.")] = "",
) -> None:
    """Print a variant as the manifest that gridctl apply takes: size, lineage and quality from its files.

    What the grid knows of the model is kept, and the variant added or replaced. A quality that nobody measured is left
    out, and the variant then fails every quality floor.

    Example:
      gridctl model variant models/llama-fp8 --model llama | gridctl apply -f -
    """
    from gridctl.artifacts.checkpoint import read_checkpoint
    from gridctl.artifacts.described import described, variant_name_of
    from gridctl.manifest import dump, parse_manifest
    from gridctl.orchestrator.context import current_grid
    from gridctl.resources import Model

    found = read_checkpoint(folder)
    known = None
    try:
        with current_grid().open_registry() as registry:
            stored = registry.find(Model, model)
            known = stored.resource if stored else None
    except NotFoundError:
        note("no grid here: the model is described from these files alone")
    assert known is None or isinstance(known, Model)
    made = described(found, model, name or variant_name_of(folder), known)
    text = dump([made], "yaml")
    parse_manifest(text.encode(), name=f"{folder}.yaml")
    if made.spec.variants[-1].quality is None:
        note("quality: unmeasured, which fails every quality floor: gridctl model verify DIR --base … --quality-text …")
    layers = made.spec.architecture.layers
    if found.config.get("num_hidden_layers", layers) != layers:
        note(f"the grid goes on counting KV memory for the model's {layers} layers")
    write(text)
