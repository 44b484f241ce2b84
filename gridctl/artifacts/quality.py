"""Quality: how far a variant's answers are from its base's on the operator's own text, and the score that follows.

Measured over all predicted tokens of the text's windows: KL(base ‖ variant) in nats, the share of tokens that both hold
likeliest, and both perplexities. The score is on the operator's scale, where the base has one:

    score = base's score · min(1, perplexity of the base / perplexity of the variant)

The ratio is the geometric mean of how much probability the variant leaves to the right token. It is a proxy: a model
can keep its perplexity and lose a skill, so a score says nothing about text unlike the one given, and a base that
guesses at the text gives none. Without measuring there is no score, and an unmeasured variant fails every quality
floor.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gridctl.artifacts.checkpoint import Checkpoint
from gridctl.artifacts.interpreter import MEASURING, Interpreter, find_interpreter
from gridctl.artifacts.tokens import Windows
from gridctl.errors import InputError

PACKAGES = ("torch", "transformers")
QUANTIZED = "compressed-tensors"
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured: divergence in nats per token, agreement in 0..1, and over how many predictions."""

    kl_nats: float
    top1_agreement: float
    perplexity_base: float
    perplexity: float
    predictions: int
    text_digest: str
    tools: str

    def score(self, base_score: float) -> float:
        """The variant's score, given its base's.

        >>> Quality(0.1, 0.9, 6.0, 8.0, 100, "", "").score(0.8)
        0.6
        """
        return round(base_score * min(1.0, self.perplexity_base / self.perplexity), 6)

    @property
    def measured(self) -> dict[str, object]:
        """As the record holds it."""
        return {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


def measuring_interpreter(python: Path | None, *, is_quantized: bool) -> Interpreter:
    """The Python that can load base and variant. Raises: UsageError, NotFoundError, before anything long begins."""
    return find_interpreter(python, (*PACKAGES, QUANTIZED) if is_quantized else PACKAGES, "measuring quality")


def measure(
    base: Checkpoint,
    variant: Path,
    windows: Windows,
    other: Interpreter,
    *,
    advance: Callable[[int], None] = lambda _tokens: None,
) -> Quality:
    """Compare the variant with its base. `advance` hears of tokens, twice each. Raises: InputError, Interrupted."""
    needed = windows.ids.size * vocabulary(base) * _FLOAT_BYTES
    with tempfile.TemporaryDirectory(prefix=".gridctl-", dir=variant.parent) as scratch:
        if shutil.disk_usage(scratch).free < needed:
            raise InputError(
                f"the base's answers take {needed:,} bytes, and the disk has less",
                where=str(variant.parent),
                fix="free space, or give --text-tokens 1024",
            )
        ids = Path(scratch, "ids.json")
        ids.write_text(json.dumps(windows.ids.tolist()), encoding="utf-8")
        words = ["quality", "--model", str(base.folder), "--variant", str(variant), "--ids", str(ids)]
        found = other.run(MEASURING, [*words, "--scratch", scratch], advance)
    kl, agreed, before, after = (
        float(found[key]) for key in ("kl_nats", "top1_agreement", "perplexity_base", "perplexity")
    )
    if not all(math.isfinite(number) for number in (kl, agreed, before, after)):
        raise InputError("the variant or its base answers values that are no numbers", where=str(variant))
    if before > vocabulary(base) / 2:
        raise InputError(
            f"the base itself cannot predict this text (perplexity {before:,.0f} of {vocabulary(base):,} tokens), so"
            " there is nothing to compare",
            where=str(base.folder),
            fix="give text of the kind the model was trained on",
        )
    tools = ", ".join(f"{name} {other.versions[name]}" for name in (*PACKAGES, QUANTIZED) if name in other.versions)
    return Quality(kl, agreed, before, after, int(found["predictions"]), windows.text_digest, tools)


def vocabulary(source: Checkpoint) -> int:
    """Rows of the embeddings: token numbers are below it. Raises: InputError."""
    for name, (_shard, tensor) in source.tensors.items():
        if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")):
            return tensor.shape[0]
    found = source.config.get("vocab_size")
    if type(found) is not int or found < 1:
        raise InputError("the model's vocabulary has no size", where=str(source.folder / "config.json"))
    return found
