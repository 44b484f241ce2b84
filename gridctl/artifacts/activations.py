"""Activations: what passes through a model on the operator's text, as pruning and dropping layers weigh by it.

Two things are kept: √Σ x² of every column of every matrix's input (Wanda, arXiv 2306.11695), and each layer's influence
(see `influence`). Both go into one safetensors file beside the variant while it is made, so a run that was stopped goes
on with the same numbers. Llama-shaped models are run here; others by transformers in the Python named with --python.
Matrix products round differently on other machines: what is made by activations is never derived again at a site.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gridctl.artifacts.checkpoint import Checkpoint
from gridctl.artifacts.influence import block_influence
from gridctl.artifacts.interpreter import MEASURING, find_interpreter
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.pruning import layer_count
from gridctl.artifacts.rounding import Floats
from gridctl.artifacts.safetensors import Tensor, layout, read_header
from gridctl.artifacts.tokens import Windows
from gridctl.artifacts.transformer import passed, why_not
from gridctl.errors import GridctlError, InputError, UsageError

NORM_END = ".input_norm"
_ABOUT = "gridctl.activations"


@dataclass(frozen=True, slots=True)
class Activations:
    """A file of norms, `MODULE.input_norm` F32 (columns,), and the influence of each layer."""

    path: Path
    influence: tuple[float, ...]


def activations_file(out: Path) -> Path:
    """Where the activations for the variant `out` are kept until it is made."""
    return out.parent / f".{out.name}.activations.safetensors"


def collect(
    source: Checkpoint,
    windows: Windows,
    path: Path,
    *,
    python: Path | None = None,
    advance: Callable[[int], None] = lambda _tokens: None,
) -> Activations:
    """Run the windows through the model, or read what an earlier run of the same put at `path`.

    `advance` hears of tokens by layer. Raises: UsageError when no forward pass is at hand, InputError."""
    about = json.dumps([source.digest(), windows.text_digest, list(windows.ids.shape)])
    kept = _kept(path, about)
    if kept is not None:
        return kept
    reason = why_not(source)
    if reason is None:
        norms, influence = _own(source, windows, advance)
    else:
        norms, influence = _foreign(source, windows, python, reason, advance)
    _write(path, norms, {_ABOUT: about, "influence": json.dumps(influence)})
    return Activations(path, tuple(influence))


def _kept(path: Path, about: str) -> Activations | None:
    if not path.is_file():
        return None
    try:
        found = read_header(path).metadata
        if found.get(_ABOUT) == about:
            return Activations(path, tuple(float(value) for value in json.loads(found["influence"])))
    except (GridctlError, ValueError, KeyError, TypeError):
        pass  # a file that a stopped run left: it is made again
    return None


def _own(source: Checkpoint, windows: Windows, advance: Callable[[int], None]) -> tuple[dict[str, Floats], list[float]]:
    sums: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}

    def seen(module: str, inputs: Floats) -> None:
        squares = np.einsum("ij,ij->j", inputs, inputs, dtype=np.float64)
        sums[module] = sums[module] + squares if module in sums else squares

    influence = []
    for _layer, before, after in passed(source, windows.ids, seen):
        influence.append(block_influence(before, after))
        advance(windows.ids.size)
    return {f"{module}{NORM_END}": np.sqrt(found).astype(np.float32) for module, found in sums.items()}, influence


def _foreign(
    source: Checkpoint, windows: Windows, python: Path | None, reason: str, advance: Callable[[int], None]
) -> tuple[dict[str, Floats], list[float]]:
    try:
        other = find_interpreter(python, ("torch", "transformers"), "running this model")
    except UsageError as error:
        raise UsageError(
            f"the model cannot be run to see its activations: {reason}, and {error.what}",
            where=error.where,
            fix=error.fix,
        ) from None
    layers = layer_count(source.config)
    with tempfile.TemporaryDirectory(prefix="gridctl-") as scratch:
        ids, norms = Path(scratch, "ids.json"), Path(scratch, "norms.safetensors")
        ids.write_text(json.dumps(windows.ids.tolist()), encoding="utf-8")
        words = ["activations", "--model", str(source.folder), "--ids", str(ids), "--norms", str(norms)]
        found = other.run(MEASURING, words, lambda tokens: advance(tokens * layers))
        header = read_header(norms)
        return {name: read_floats(header, name) for name in header.tensors}, [float(v) for v in found["influence"]]


def _write(path: Path, norms: dict[str, Floats], metadata: dict[str, str]) -> None:
    head, places = layout((Tensor(name, "F32", norm.shape) for name, norm in norms.items()), metadata)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(head)
            for place in sorted(places.values(), key=lambda place: place.start):
                file.write(np.ascontiguousarray(norms[place.name], "<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write: {error.strerror}", where=str(path), fix="free space") from None
