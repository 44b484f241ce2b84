"""Embedders: the built-in one by its properties, the encoder against an independent forward pass, the files' faults."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridctl.cache.embedders import HashedEmbedder, embed, identity, open_embedder
from gridctl.cache.transformer import TransformerEmbedder
from gridctl.cache.weights import read_weights
from gridctl.cache.wordpiece import WordPieces
from gridctl.errors import InputError

HIDDEN, HEADS, WIDE, LAYERS = 8, 2, 16, 2
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##s", "light", "the", "!", "caf", "##e", "東"]


def safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    header, body = {}, b""
    for name, values in tensors.items():
        data = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def weights() -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(3)

    def some(*shape: int) -> NDArray[np.float32]:
        return (0.5 * draw.normal(size=shape)).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": some(len(VOCABULARY), HIDDEN),
        "embeddings.position_embeddings.weight": some(32, HIDDEN),
        "embeddings.token_type_embeddings.weight": some(2, HIDDEN),
        "embeddings.LayerNorm.weight": some(HIDDEN) + 1,
        "embeddings.LayerNorm.bias": some(HIDDEN),
    }
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}"
        for name, out, into in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ):
            found[f"{place}.{name}.weight"], found[f"{place}.{name}.bias"] = some(out, into), some(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"{place}.{name}.weight"], found[f"{place}.{name}.bias"] = some(HIDDEN) + 1, some(HIDDEN)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "layer_norm_eps": 1e-12,
              "max_position_embeddings": 32, "hidden_act": "gelu"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    (tmp_path / "model.safetensors").write_bytes(safetensors(weights()))
    return tmp_path


def by_hand(ids: list[int]) -> NDArray[np.float64]:
    """The encoder as the papers write it, one piece, head and number at a time, in double precision."""
    have = {name: values.astype(float) for name, values in weights().items()}

    def norm(row: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return (row - row.mean()) / math.sqrt(row.var() + 1e-12) * have[f"{name}.weight"] + have[f"{name}.bias"]

    def linear(row: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return have[f"{name}.weight"] @ row + have[f"{name}.bias"]

    words, places, kinds = (have[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    states = [norm(words[piece] + places[at] + kinds[0], "embeddings.LayerNorm") for at, piece in enumerate(ids)]
    for layer in range(LAYERS):
        name, size = f"encoder.layer.{layer}", HIDDEN // HEADS
        queries, keys, values = (
            [linear(row, f"{name}.attention.self.{kind}") for row in states] for kind in ("query", "key", "value")
        )
        after = []
        for at, row in enumerate(states):
            mixed = np.zeros(HIDDEN)
            for head in range(HEADS):
                part = slice(head * size, head * size + size)
                scores = [math.exp(queries[at][part] @ key[part] / math.sqrt(size)) for key in keys]
                mixed[part] = sum(one / sum(scores) * value[part] for one, value in zip(scores, values, strict=True))
            row = norm(row + linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            wide = linear(row, f"{name}.intermediate.dense")
            wide = np.array([0.5 * one * (1 + math.erf(one / math.sqrt(2))) for one in wide])
            after.append(norm(row + linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"))
        states = after
    pooled = np.mean(states, axis=0)
    return pooled / np.linalg.norm(pooled)


def test_the_encoder_computes_what_the_papers_write(folder: Path) -> None:
    embedder = TransformerEmbedder(folder)
    found = embedder.embed(["the playing lights", "Café!"])
    np.testing.assert_allclose(found[0], by_hand([2, 8, 4, 5, 7, 6, 3]), atol=2e-5)
    np.testing.assert_allclose(found[1], by_hand([2, 10, 11, 9, 3]), atol=2e-5)


def test_a_text_has_one_vector_whatever_stands_beside_it(folder: Path) -> None:
    embedder = TransformerEmbedder(folder)
    alone = embedder.embed(["the light"])
    beside = embedder.embed(["play " * 20, "the light", ""])
    np.testing.assert_allclose(beside[1], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Playing LIGHTS", [2, 4, 5, 7, 6, 3]),
        ("the東light", [2, 8, 12, 7, 3]),
        ("unknown words", [2, 1, 1, 3]),
        ("the\u0000\u200b light", [2, 8, 7, 3]),
        ("", [2, 3]),
        ("a" * 101, [2, 1, 3]),
    ],
)
def test_text_becomes_the_longest_pieces(text: str, ids: list[int]) -> None:
    assert WordPieces(VOCABULARY).ids(text, 256) == ids


def test_no_more_ids_than_wanted() -> None:
    found = WordPieces(VOCABULARY).ids("playing " * 10_000, 16)
    assert len(found) == 16
    assert (found[0], found[-1]) == (2, 3)


@pytest.mark.parametrize("size", [0, 7, 8, 40, 2000])
def test_a_cut_file_of_weights_is_an_error(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError):
        TransformerEmbedder(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 60]},
        {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4]},
    ],
    ids=["beyond", "overflow", "negative", "backwards", "shapeless", "placeless"],
)
def test_a_header_that_lies_is_an_error(tmp_path: Path, entry: dict[str, object]) -> None:
    text = json.dumps({"a": entry}).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(InputError):
        read_weights(tmp_path / "w")


def test_the_name_and_version_follow_the_weights(folder: Path) -> None:
    before = identity(TransformerEmbedder(folder))
    changed = weights()
    changed["embeddings.LayerNorm.bias"][0] += 1.0
    (folder / "model.safetensors").write_bytes(safetensors(changed))
    assert identity(TransformerEmbedder(folder)) != before


@pytest.mark.parametrize("place", ["no/such/folder", "no_such_package_anywhere", "os", "..", "a b"])
def test_no_model_there_is_an_error_with_a_way_out(place: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_embedder(place if place != ".." else str(tmp_path))
    assert caught.value.fix or caught.value.where


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_the_built_in_embedder_gives_unit_vectors_of_any_text(texts: list[str]) -> None:
    rows = embed(HashedEmbedder(64), texts)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert (rows[0] == embed(HashedEmbedder(64), texts[:1])[0]).all()


def test_the_built_in_embedder_puts_rewordings_nearer_than_strangers() -> None:
    rows = embed(
        open_embedder("hashed"), ["my card has not arrived", "has my card arrived yet", "play some jazz music"]
    )
    assert rows[0] @ rows[1] > 0.4 > rows[0] @ rows[2]


class Broken:
    name, version, dimension = "broken", "1", 4

    def __init__(self, rows: object) -> None:
        self._rows = rows

    def embed(self, texts: object) -> NDArray[np.float32]:
        return self._rows  # type: ignore[return-value]


@pytest.mark.parametrize("rows", [np.full((1, 4), np.nan), np.zeros((1, 4)), np.ones((1, 5)), np.ones((2, 4))])
def test_what_an_embedder_gives_is_checked(rows: NDArray[np.float32]) -> None:
    with pytest.raises(InputError):
        embed(Broken(rows), ["one text"])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Fields of a protocol buffer as its encoding writes them: numbers as varints, the rest with their lengths."""

    def varint(value: int) -> bytes:
        low, high = value & 0x7F, value >> 7
        return bytes([low | 0x80]) + varint(high) if high else bytes([low])

    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def onnx_lookup(rows: NDArray[np.float32]) -> bytes:
    """A model whose states are rows of a table: Gather(table, input_ids), of shape (texts, pieces, places). Field
    numbers are those of onnx.proto3; the attention mask is asked for and left unused."""
    table = message((1, rows.shape[0]), (1, rows.shape[1]), (2, 1), (8, b"table"), (9, rows.astype("<f4").tobytes()))
    gather = message((1, b"table"), (1, b"input_ids"), (2, b"states"), (4, b"Gather"))

    def value(name: bytes, kind: int, *sides: bytes | int) -> bytes:
        shape = message(*((1, message((1 if isinstance(side, int) else 2, side))) for side in sides))
        return message((1, name), (2, message((1, message((1, kind), (2, shape))))))

    graph = message(
        (1, gather), (2, b"lookup"), (5, table),
        (11, value(b"input_ids", 7, b"texts", b"pieces")), (11, value(b"attention_mask", 7, b"texts", b"pieces")),
        (12, value(b"states", 1, b"texts", b"pieces", rows.shape[1])),
    )  # fmt: skip
    return message((1, 8), (7, graph), (8, message((2, 13))))


def test_an_onnx_model_gives_the_mean_of_its_states_over_the_pieces_of_a_text(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, "play": 2, "the": 3, "light": 4}
    rows = np.array([[9, 9, 9], [0, 0, 5], [1, 0, 0], [0, 2, 0], [3, 4, 0]], np.float32)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "model.onnx").write_bytes(onnx_lookup(rows))
    embedder = open_embedder(str(tmp_path))
    found = embed(embedder, ["play the light", "light", "play", "what light"])
    # the mean of (1,0,0), (0,2,0), (3,4,0) points along (4,6,0); the mean of (0,0,5), (3,4,0) along (3,4,5)
    expected = np.array([[4, 6, 0], [3, 4, 0], [1, 0, 0], [3, 4, 5]], np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert embedder.dimension == 3
    assert np.allclose(found, expected, atol=1e-6)  # padding beside the longest text counts for nothing


def test_a_broken_onnx_model_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot be loaded"):
        open_embedder(str(tmp_path))
