"""Embedders behind one interface: text in, unit vectors out.

    hashed        built in: words and letter groups hashed into a vector, rare ones counting more; needs nothing
    transformer   a folder with config.json, vocab.txt and model.safetensors (MiniLM and its like), in NumPy
    onnx          a folder with model.onnx and tokenizer.json, by onnxruntime (several times faster)
    endpoint      the URL of a /v1/embeddings service, see `endpoint`

Decides which one a name means and that what comes out is usable: a wrong shape, NaN or zeros is an error and never
gets into an index. Calls block; a server runs them beside its event loop, many texts at a time. `identity` names the
embedder and its version and belongs in every partition: vectors of two embedders never meet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.index import unit_rows
from gridctl.errors import InputError

Floats = NDArray[np.float32]
HASHED_DIMENSION = 512
LONGEST_EMBEDDED = 8_192
BATCH = 64
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


class Embedder(Protocol):
    """`embed` gives shape (len(texts), dimension); the same text gives the same vector whatever stands beside it."""

    name: str
    version: str
    dimension: int

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of texts."""


def embed(embedder: Embedder, texts: Sequence[str]) -> Floats:
    """Unit vectors, checked, shape (len(texts), dimension). Only the first 8,192 characters of a text are read."""
    if not texts:
        return np.empty((0, embedder.dimension), np.float32)
    rows = unit_rows(embedder.embed([text[:LONGEST_EMBEDDED] for text in texts]), embedder.dimension)
    if len(rows) != len(texts):
        raise InputError(f"{embedder.name} gave {len(rows)} vectors for {len(texts)} texts", fix="check the embedder")
    return rows


def identity(embedder: Embedder) -> tuple[str, str]:
    """Name and version, as a partition holds them."""
    return embedder.name, f"{embedder.version}-{embedder.dimension}"


def open_embedder(place: str) -> Embedder:
    """The embedder at `place`: "hashed", a folder, the name of an installed package that carries such a folder, or a
    URL."""
    if place == "hashed":
        return HashedEmbedder()
    if place.startswith(("http://", "https://")):
        from gridctl.cache.endpoint import EndpointEmbedder

        return EndpointEmbedder(place)
    folder = Path(place)
    if not folder.is_dir():
        found = _package_folder(place)
        if found is None:
            raise InputError(
                f"no embedding model at {place!r}",
                where="cache.embedder",
                fix="give `hashed`, a folder, a package or a URL",
            )
        folder = found
    if (folder / "model.onnx").is_file():
        return OnnxEmbedder(folder)
    from gridctl.cache.transformer import TransformerEmbedder

    return TransformerEmbedder(folder)


def _package_folder(package: str) -> Path | None:
    if not re.fullmatch(r"[A-Za-z_]\w{0,99}", package):
        return None
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for model in (Path(place), Path(place) / "model"):
            if (model / "model.onnx").is_file() or (model / "model.safetensors").is_file():
                return model
    return None


class HashedEmbedder:
    """Words, neighbouring words and letter triples hashed into `dimension` signed places (Weinberger et al. 2009).

    Words weigh more than triples, and long words more than short ones: without having seen any text, length is the best
    stand-in for rarity (Zipf 1935), and a fixed weight keeps vectors comparable over time.
    """

    def __init__(self, dimension: int = HASHED_DIMENSION) -> None:
        if dimension < 8:
            raise InputError(f"{dimension} places are too few to hash into")
        self.name, self.version, self.dimension = "hashed", "1", dimension

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors; a text without words gets a vector of its own characters."""
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> Floats:
        places = np.zeros(self.dimension, np.float32)
        words = _WORD.findall(text.lower())
        weights: dict[str, float] = {}
        for word, following in zip(words, [*words[1:], ""], strict=False):
            rarity = math.log1p(min(len(word), 12))
            weights[f"w{word}"] = weights.get(f"w{word}", 0.0) + rarity
            if following:
                weights[f"p{word} {following}"] = 0.5 * rarity
            padded = f"^{word}$"
            for start in range(len(padded) - 2):
                triple = f"t{padded[start : start + 3]}"
                weights[triple] = weights.get(triple, 0.0) + 0.3
        for feature, weight in (weights or {f"c{text}": 1.0}).items():
            code = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
            places[(code >> 1) % self.dimension] += math.copysign(1.0 + math.log1p(weight), (code & 1) - 0.5)
        length = float(np.linalg.norm(places))
        if length == 0.0:  # two features that cancel each other
            places[zlib.crc32(text.encode("utf-8", "surrogatepass")) % self.dimension] = length = 1.0
        return places / np.float32(length)


class OnnxEmbedder:
    """A folder with `model.onnx` and `tokenizer.json`; mean over pieces where the model gives states."""

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped,unused-ignore]
            from tokenizers import Tokenizer
        except ImportError as error:
            raise InputError(f"{error.name} is not installed", fix="pip install 'gridctl[embed]'") from error
        model = folder / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # both libraries raise kinds of their own
            raise InputError(f"the embedding model cannot be loaded: {error}", where=str(folder)) from error
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()
        self._inputs = [one.name for one in self._session.get_inputs()]
        self.name = folder.resolve().name
        self.version = hashlib.sha256(model.read_bytes()).hexdigest()[:16]
        self.dimension = int(self._run(["a first sentence"]).shape[1])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors; texts of like length go through the model together."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._run([texts[row] for row in rows])
        return found

    def _run(self, texts: list[str]) -> Floats:
        encoded = self._tokenizer.encode_batch(texts)
        real = np.array([one.attention_mask for one in encoded], np.int64)
        known = {
            "input_ids": np.array([one.ids for one in encoded], np.int64),
            "attention_mask": real,
            "token_type_ids": np.zeros_like(real),
        }
        states = np.asarray(self._session.run(None, {name: known[name] for name in self._inputs})[0], np.float32)
        if states.ndim == 3:
            shown = real[:, :, None].astype(np.float32)
            states = (states * shown).sum(1) / np.maximum(shown.sum(1), 1.0)
        return np.asarray(states / np.linalg.norm(states, axis=1, keepdims=True), np.float32)
