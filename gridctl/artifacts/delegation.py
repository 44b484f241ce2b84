"""What needs calibration or other rounding than to the nearest, delegated to llm-compressor through the same command.

GPTQ, AWQ, SparseGPT and NVFP4 are run by a script of ours in the Python named with --python; the result is checked like
our own and gets the same record. Invariant: the target appears whole, verified, or not at all. Calibrated weights come
out differently on other machines, so sites fetch them: there is no recipe.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridctl.artifacts.checkpoint import WEIGHT_ENDS, Checkpoint, read_checkpoint
from gridctl.artifacts.contents import file_digest
from gridctl.artifacts.interpreter import COMPRESSING, Interpreter, find_interpreter
from gridctl.artifacts.optimizing import partial_folder
from gridctl.artifacts.record import REPORT, UNMEASURED, origin
from gridctl.artifacts.verifying import verify
from gridctl.errors import InputError, NotFoundError, UsageError

PACKAGES = ("llmcompressor",)


@dataclass(frozen=True, slots=True)
class Delegated:
    """A scheme of llm-compressor's; `costs` says why it needs --accept-quality-loss."""

    name: str
    is_calibrated: bool
    costs: str = ""


DELEGATED = {
    scheme.name: scheme
    for scheme in (
        Delegated("gptq-w4a16", True),
        Delegated("gptq-w8a8", True),
        Delegated("awq-w4a16", True),
        Delegated("nvfp4", True),
        Delegated("nvfp4a16", False),
        Delegated(
            "sparsegpt-50", True, "SparseGPT at 50 % costs much: on Llama-2-7B it took the perplexity from 5.12 to 6.51"
        ),
        Delegated(
            "sparsegpt-2:4",
            True,
            "2:4 costs much (SparseGPT on Llama-2-7B: perplexity 5.12 to 10.17), and no engine here runs 2:4 faster",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Delegation:
    """One run of llm-compressor."""

    scheme: Delegated
    text: Path | None
    tokens: int
    length: int
    ignore: tuple[str, ...]

    def words(self, source: Path, out: Path) -> list[str]:
        """The script's arguments."""
        found = ["--model", str(source), "--out", str(out), "--scheme", self.scheme.name]
        if self.scheme.is_calibrated and self.text is not None:
            found += ["--text", str(self.text), "--tokens", str(self.tokens), "--length", str(self.length)]
        for pattern in self.ignore:
            found += ["--ignore", pattern]
        return found


def read_delegation(scheme: str, text: Path | None, tokens: int, length: int, ignore: tuple[str, ...]) -> Delegation:
    """The delegation of a scheme. Raises: UsageError, NotFoundError."""
    found = DELEGATED[scheme]
    if found.is_calibrated and text is None:
        raise UsageError(
            f"{scheme} is calibrated on text, and none is given",
            where="--scheme",
            fix="give --calibration-text FILE: text like your traffic",
        )
    if text is not None and not text.is_file():
        raise NotFoundError("no such text", where=str(text))
    return Delegation(found, text.absolute() if text else None, tokens, length, ignore)


def compressor(python: Path | None, scheme: str) -> Interpreter:
    """The Python that has llm-compressor. Raises: UsageError, NotFoundError."""
    return find_interpreter(python, PACKAGES, scheme)


def command_line(delegation: Delegation, source: Checkpoint, out: Path, other: Interpreter) -> str:
    """The command that will be run, as a shell takes it."""
    return shlex.join(
        other.command(COMPRESSING, delegation.words(source.folder.absolute(), partial_folder(out.absolute())))
    )


def delegate(
    delegation: Delegation,
    source: Checkpoint,
    out: Path,
    other: Interpreter,
    *,
    advance: Callable[[int], None] = lambda _count: None,
) -> Checkpoint:
    """Make the variant at `out`; the model as made and found sound. Raises: InputError, Interrupted."""
    if out.exists() or out.is_symlink():
        raise InputError("the target exists already", where=str(out), fix="remove it, or give another --out")
    folder = partial_folder(out)
    if folder.is_symlink():
        raise InputError("a symbolic link is where the variant is made", where=str(folder), fix="remove it")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        found = other.run(COMPRESSING, delegation.words(source.folder.absolute(), folder.absolute()), advance)
        _complete(source, folder, delegation, {**found, **other.versions})
        verify(folder)
        folder.rename(out)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(folder), fix="free space") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return read_checkpoint(out)


def _complete(source: Checkpoint, folder: Path, delegation: Delegation, versions: dict[str, str]) -> None:
    """The tokenizer and other companions of the source, where llm-compressor left them out, and the record."""
    from gridctl import __version__

    for name in source.companions:
        if not (folder / name).exists() and not name.lower().endswith(WEIGHT_ENDS):
            shutil.copyfile(source.folder / name, folder / name)
    record = {
        "kind": "OptimizedModel",
        "gridctl": __version__,
        "base": origin(source.config, source.shards),
        "request": {
            "scheme": delegation.scheme.name,
            "calibration_text": file_digest(delegation.text) if delegation.text else None,
            "ignore": list(delegation.ignore),
        },
        "recipe": None,
        "quality": UNMEASURED,
        "bytes_in": source.total_bytes,
        "tools": versions,
    }
    (folder / REPORT).write_text(json.dumps(record, indent=2, sort_keys=True), encoding="utf-8")
