"""Tokens of a text in windows of equal length: what calibration and quality are measured on.

A file whose name ends in `.jsonl` holds a list of token numbers on each line, and needs nothing installed. Any other is
UTF-8 text, which the model's own tokenizer.json cuts: by the `tokenizers` package where gridctl has it, else by
transformers in the Python named with --python. Windows are filled across lines; what does not fill the last is left.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gridctl.artifacts.contents import bytes_digest
from gridctl.artifacts.interpreter import MEASURING, find_interpreter
from gridctl.errors import InputError, NotFoundError, UsageError

MAX_TOKEN_BYTES = 32
"""Text read for each token wanted, at most: no tokenizer's average is near it."""
MAX_TOKENS = 1 << 22
_LEAST = 2

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Token numbers (windows, length), and the SHA-256 of the text they were cut from."""

    ids: Ids
    text_digest: str


def read_windows(text: Path, model: Path, *, tokens: int, length: int, vocabulary: int, python: Path | None) -> Windows:
    """At most `tokens` tokens of the file in windows of `length`. Raises: NotFoundError, InputError, UsageError."""
    if not _LEAST <= length <= tokens <= MAX_TOKENS:
        raise UsageError(
            f"windows of {length} tokens cannot be cut from {tokens}",
            fix=f"at most {MAX_TOKENS} tokens, windows of 512",
        )
    data = _read(text, tokens * MAX_TOKEN_BYTES)
    ids = _listed(data, text) if text.suffix == ".jsonl" else _cut(data, text, model, python)
    if len(ids) < _LEAST:
        raise InputError("there is too little text", where=str(text), fix="give some thousand words like the traffic")
    if not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise InputError(
            f"token {int(ids.max())} is not one of the model's {vocabulary}", where=str(text), fix="use its tokenizer"
        )
    length = min(length, len(ids))
    count = min(tokens, len(ids)) // length
    return Windows(ids[: count * length].reshape(count, length), bytes_digest(data))


def _read(text: Path, limit: int) -> bytes:
    try:
        with text.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise NotFoundError("no such text", where=str(text)) from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(text), fix="name a text file") from None


def _listed(data: bytes, text: Path) -> Ids:
    found: list[int] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        try:
            items = json.loads(line) if line.strip() else []
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list) or not all(type(item) is int and 0 <= item < 1 << 31 for item in items):
            raise InputError("not a list of token numbers", where=f"{text}:{number}", fix="write [1, 15043, 3186]")
        found += items
    return np.array(found, np.int64)


def _cut(data: bytes, text: Path, model: Path, python: Path | None) -> Ids:
    words = data.decode("utf-8", "ignore")
    if "\x00" in words or (data and len(words.encode()) < len(data) - 4):
        raise InputError("not UTF-8 text", where=str(text), fix="give plain text, or lists of token numbers in .jsonl")
    described = model / "tokenizer.json"
    if importlib.util.find_spec("tokenizers") is not None and described.is_file():
        from tokenizers import Tokenizer

        try:
            return np.array(Tokenizer.from_file(str(described)).encode(words, add_special_tokens=False).ids, np.int64)
        except Exception as error:  # whatever the library makes of a file that is not its own
            raise InputError(f"the tokenizer cannot be used: {str(error)[:200]}", where=str(described)) from None
    if not any((model / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InputError(
            "the model has no tokenizer", where=str(model), fix="give lists of token numbers in a .jsonl file"
        )
    try:
        other = find_interpreter(python, ("transformers",), "cutting text into tokens")
    except UsageError as error:
        raise UsageError(
            error.what,
            where=error.where,
            fix="pip install tokenizers, or add --python, or give token numbers in .jsonl",
        ) from None
    found = other.run(MEASURING, ["tokens", "--model", str(model), "--text", str(text), "--bytes", str(len(data))])
    return np.array(found["ids"], np.int64)
