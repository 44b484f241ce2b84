"""What `gridctl model optimize` learns by running the model on a text: which layers matter least, and Wanda's norms.

Nothing is printed but which layers go; the activations are kept beside the variant until it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.cli.measuring import read_text
from gridctl.cli.output import note, progress
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.artifacts.checkpoint import Checkpoint
    from gridctl.artifacts.variant import Request


@dataclass(frozen=True, slots=True)
class Calibration:
    """The text that activations are seen on, and how much of it."""

    text: Path | None
    tokens: int
    length: int
    python: Path | None


def calibrated(
    found: Checkpoint, request: Request, count: int | None, calibration: Calibration, out: Path, *, dry_run: bool
) -> tuple[Request, Path | None]:
    """The request with what only activations tell, and the file they are kept in until the variant is made."""
    from dataclasses import replace

    from gridctl.artifacts.activations import activations_file
    from gridctl.artifacts.influence import least

    is_wanda = request.prune is not None and request.prune.method == "wanda" and request.activations is None
    if count is None and not is_wanda:
        if calibration.text is not None:
            raise UsageError(
                "nothing asks for text to see the model on",
                where="--calibration-text",
                fix="add --drop-layers auto=K or --prune wanda=0.4, or leave it out",
            )
        return request, None
    if calibration.text is None:
        raise UsageError(
            "which layers matter least is not known without running the model"
            if count is not None
            else "Wanda weighs by activations, and none are given",
            where="--drop-layers" if count is not None else "--prune wanda",
            fix="give --calibration-text FILE: text like your traffic"
            + (", or --activations FILE.safetensors" if is_wanda else ", or name the layers: 20-23"),
        )
    path = activations_file(out)
    seen = _see(found, calibration, path, dry_run=dry_run, is_wanda=is_wanda)
    if is_wanda:
        request = replace(request, activations=path)
    if count is not None:
        request = replace(request, drop=least(seen, count), influence=seen)
        told = ", ".join(f"{layer} ({seen[layer]:.4f})" for layer in request.drop)
        note(f"layers of least influence, which go: {told}")
    return request, path


def _see(
    found: Checkpoint, calibration: Calibration, path: Path, *, dry_run: bool, is_wanda: bool
) -> tuple[float, ...]:
    """Run the text through the model, the file of norms written to `path`; each layer's influence."""
    import tempfile

    from gridctl.artifacts.activations import collect
    from gridctl.artifacts.pruning import layer_count

    assert calibration.text is not None
    if dry_run and is_wanda:
        raise UsageError(
            "a dry run sees no activations", where="--prune wanda", fix="leave --dry-run out, or give --activations"
        )
    windows = read_text(calibration.text, found, calibration.tokens, calibration.length, calibration.python)
    total = windows.ids.size * layer_count(found.config)
    with progress("running the model on the text", total) as advance:
        if not dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            return collect(found, windows, path, python=calibration.python, advance=advance).influence
        with tempfile.TemporaryDirectory(prefix="gridctl-") as scratch:
            place = Path(scratch, "activations")
            return collect(found, windows, place, python=calibration.python, advance=advance).influence
