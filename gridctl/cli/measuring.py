"""Options and steps of commands that measure a variant's quality against its base.

What is missing (text, a tokenizer, a Python with transformers) is said by `prepare`, before anything long; `take`
measures, writes the score into the variant's record and says it.
"""

# No postponed annotations here: typer reads them.

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import note, progress

if TYPE_CHECKING:
    from gridctl.artifacts.checkpoint import Checkpoint
    from gridctl.artifacts.interpreter import Interpreter
    from gridctl.artifacts.quality import Quality
    from gridctl.artifacts.tokens import Windows

QualityTextOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Measure quality against the base on this text, or token numbers (.jsonl)."),
]
TokensOption = Annotated[
    int, typer.Option(min=2, max=1 << 22, metavar="N", help="Tokens of a text that are used, at most.")
]
LengthOption = Annotated[int, typer.Option(min=2, max=1 << 17, metavar="N", help="Tokens the model sees at a time.")]
BaseQualityOption = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, metavar="0..1", help="The base's score on your scale; the variant's is relative to it."
    ),
]
PythonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="GRIDCTL_MODEL_PYTHON", help="A Python with transformers, or llm-compressor; its path."
    ),
]


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What quality is measured by."""

    text: Path | None
    tokens: int
    length: int
    base_quality: float
    python: Path | None


@dataclass(frozen=True, slots=True)
class Measuring:
    """A measurement that has all it needs."""

    windows: "Windows"
    other: "Interpreter"
    base_quality: float


def read_text(text: Path, model: "Checkpoint", tokens: int, length: int, python: Path | None) -> "Windows":
    """The text in the model's tokens. A window longer than the tokens asked for is cut to them."""
    from gridctl.artifacts.quality import vocabulary
    from gridctl.artifacts.tokens import read_windows

    length = min(length, tokens)
    return read_windows(text, model.folder, tokens=tokens, length=length, vocabulary=vocabulary(model), python=python)


def prepare(yardstick: Yardstick, base: "Checkpoint", *, is_quantized: bool) -> Measuring:
    """Find all that measuring needs. Raises: UsageError, NotFoundError, InputError."""
    from gridctl.artifacts.quality import measuring_interpreter

    assert yardstick.text is not None
    other = measuring_interpreter(yardstick.python, is_quantized=is_quantized)
    windows = read_text(yardstick.text, base, yardstick.tokens, yardstick.length, yardstick.python)
    return Measuring(windows, other, yardstick.base_quality)


def take(measuring: Measuring, base: "Checkpoint", variant: Path) -> tuple[float, "Quality"]:
    """Measure, write the record, say it; the score and what was measured."""
    from gridctl.artifacts.quality import measure
    from gridctl.artifacts.record import record_quality

    with progress("measuring quality", 2 * measuring.windows.ids.size) as advance:
        found = measure(base, variant, measuring.windows, measuring.other, advance=advance)
    score = found.score(measuring.base_quality)
    record_quality(variant, score, found.measured)
    note(
        f"quality: {score:g} (perplexity {found.perplexity_base:.4g} → {found.perplexity:.4g}, top-1 agreement"
        f" {found.top1_agreement:.1%}, KL {found.kl_nats:.4g} nats, over {found.predictions:,} predictions)"
    )
    return score, found
