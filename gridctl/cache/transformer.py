"""Sentence vectors of a BERT-class encoder (MiniLM-L6 and its like) in NumPy: weights and vocabulary in, unit rows out.

Decides numbers only. Mean over the pieces' last states, then length 1, as sentence-transformers pools all-MiniLM
models. Texts of like length are batched, so padding costs little; attention never looks at padding, so a text's vector
does not depend on its neighbours beyond rounding. Source: Devlin et al. 2019, section 3; Vaswani et al. 2017, section
3.2; GELU in its exact form by the error function, approximated to 1.5e-7 (Abramowitz and Stegun 7.1.26).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.cache.weights import read_weights
from gridctl.cache.wordpiece import WordPieces
from gridctl.errors import InputError

Floats = NDArray[np.float32]
BATCH = 64
MOST_PIECES = 256


class Shape(msgspec.Struct, frozen=True):
    """What `config.json` says of the encoder, under its own names."""

    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 512
    hidden_act: str = "gelu"


class TransformerEmbedder:
    """A folder with `config.json`, `vocab.txt` and `model.safetensors`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._shape = msgspec.json.decode((folder / "config.json").read_bytes(), type=Shape)
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"the embedding model cannot be read: {error}", where=str(folder)) from error
        if self._shape.hidden_act != "gelu" or self._shape.hidden_size % self._shape.num_attention_heads:
            raise InputError("the embedding model is not a BERT-class encoder with GELU", where=str(folder))
        self._pieces = WordPieces.read(folder / "vocab.txt")
        weights = read_weights(folder / "model.safetensors")
        self._weights = {name.removeprefix("bert."): values for name, values in weights.items()}
        self.name = folder.resolve().name
        self.version = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
        self.dimension = self._shape.hidden_size
        self._check(folder)

    def _check(self, folder: Path) -> None:
        try:
            self.embed(["a first sentence"])
        except (KeyError, ValueError) as error:
            raise InputError(f"the weights do not fit config.json: {error}", where=str(folder)) from error

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, shape (n, dimension)."""
        most = min(MOST_PIECES, self._shape.max_position_embeddings)
        ids = [self._pieces.ids(text, most) for text in texts]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        found = np.empty((len(ids), self.dimension), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._forward([ids[row] for row in rows])
        return found

    def _forward(self, batch: list[list[int]]) -> Floats:
        width = max(len(ids) for ids in batch)
        pieces = np.full((len(batch), width), self._pieces.pad, np.int64)
        real = np.zeros((len(batch), width), np.float32)
        for row, ids in enumerate(batch):
            pieces[row, : len(ids)] = ids
            real[row, : len(ids)] = 1.0
        weights = self._weights
        states = weights["embeddings.word_embeddings.weight"][pieces]
        states = states + weights["embeddings.position_embeddings.weight"][:width]
        states += weights["embeddings.token_type_embeddings.weight"][0]
        states = self._norm(states, "embeddings.LayerNorm")
        unseen = (1.0 - real[:, None, None, :]) * np.float32(-1e9)
        for layer in range(self._shape.num_hidden_layers):
            states = self._layer(states, unseen, f"encoder.layer.{layer}")
        pooled = (states * real[:, :, None]).sum(1) / real.sum(1)[:, None]
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float32)

    def _layer(self, states: Floats, unseen: Floats, name: str) -> Floats:
        texts, width, hidden = states.shape
        heads = self._shape.num_attention_heads

        def split(kind: str) -> Floats:
            values = self._linear(states, f"{name}.attention.self.{kind}")
            return values.reshape(texts, width, heads, hidden // heads).transpose(0, 2, 1, 3)

        scores: Floats = (
            split("query") @ split("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(hidden // heads)) + unseen
        )
        scores = np.asarray(np.exp(scores - scores.max(-1, keepdims=True)), np.float32)
        scores = scores / scores.sum(-1, keepdims=True)
        mixed = (scores @ split("value")).transpose(0, 2, 1, 3).reshape(texts, width, hidden)
        mixed = self._linear(mixed, f"{name}.attention.output.dense")
        states = self._norm(states + mixed, f"{name}.attention.output.LayerNorm")
        wide = _gelu(self._linear(states, f"{name}.intermediate.dense"))
        return self._norm(states + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, states: Floats, name: str) -> Floats:
        weight = self._weights[f"{name}.weight"]
        flat = states.reshape(-1, states.shape[-1]) @ weight.T + self._weights[f"{name}.bias"]
        return np.asarray(flat, np.float32).reshape(*states.shape[:-1], weight.shape[0])

    def _norm(self, states: Floats, name: str) -> Floats:
        centred = states - states.mean(-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(self._shape.layer_norm_eps))
        return np.asarray(centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"], np.float32)


def _gelu(values: Floats) -> Floats:
    scaled = np.abs(values) * np.float32(0.7071067811865476)
    step = 1.0 / (1.0 + np.float32(0.3275911) * scaled)
    series: Floats = np.full_like(step, 1.061405429)
    for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * step + np.float32(term)
    error = np.sign(values) * (1.0 - series * step * np.exp(-scaled * scaled))
    return np.asarray(0.5 * values * (1.0 + error), np.float32)
