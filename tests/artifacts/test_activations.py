"""What passes through a model: the forward pass against a plain one in float64, influence by hand, windows of text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.artifacts import activations
from gridctl.artifacts.activations import activations_file, collect
from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.influence import block_influence, least, read_auto
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.safetensors import read_header
from gridctl.artifacts.tokens import Windows, read_windows
from gridctl.artifacts.transformer import why_not
from gridctl.errors import GridctlError, InputError, NotFoundError, UsageError
from tests.artifacts.tinyllama import HEADS, LAYERS, SIZE, VOCABULARY, Arrays, drawn, saved


def plain(arrays: Arrays, tokens: np.ndarray) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The same model token by token and head by head in float64, written from the papers; flows and inputs."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    inputs: dict[str, list[np.ndarray]] = {}

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / math.sqrt(float(x @ x) / len(x) + 1e-5) * weight

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        inputs.setdefault(name, []).append(x)
        return wide[f"{name}.weight"] @ x

    def turned(x: np.ndarray, position: int) -> np.ndarray:
        number = complex(x[0], x[1]) * complex(math.cos(position), math.sin(position))  # size 2: one pair, frequency 1
        return np.array([number.real, number.imag])

    flows = [np.stack([wide["model.embed_tokens.weight"][token] for token in tokens])]
    for layer in range(LAYERS):
        at, before = f"model.layers.{layer}", flows[-1]
        keys, values, after = [], [], []
        for position, x in enumerate(before):
            normed = norm(x, wide[f"{at}.input_layernorm.weight"])
            query = linear(f"{at}.self_attn.q_proj", normed)
            keys.append(linear(f"{at}.self_attn.k_proj", normed))
            values.append(linear(f"{at}.self_attn.v_proj", normed))
            heard = []
            for head in range(HEADS):
                mine = turned(query[head * SIZE : (head + 1) * SIZE], position)
                shared = slice(head // 2 * SIZE, head // 2 * SIZE + SIZE)
                scores = np.array([mine @ turned(key[shared], p) / math.sqrt(SIZE) for p, key in enumerate(keys)])
                odds = np.exp(scores) / np.exp(scores).sum()
                heard.append(sum(share * value[shared] for share, value in zip(odds, values, strict=True)))
            middle = x + linear(f"{at}.self_attn.o_proj", np.concatenate(heard))
            normed = norm(middle, wide[f"{at}.post_attention_layernorm.weight"])
            gate = linear(f"{at}.mlp.gate_proj", normed)
            inner = gate / (1 + np.exp(-gate)) * linear(f"{at}.mlp.up_proj", normed)
            after.append(middle + linear(f"{at}.mlp.down_proj", inner))
        flows.append(np.stack(after))
    return flows, {name: np.stack(rows) for name, rows in inputs.items()}


def test_norms_and_influence_are_those_of_a_plain_forward_pass(tmp_path: Path) -> None:
    arrays = drawn()
    source = read_checkpoint(saved(tmp_path / "model", arrays))
    ids = np.array([[1, 5, 9, 0, 5, 2], [3, 3, 4, 8, 7, 1]])
    found = collect(source, Windows(ids, "text"), tmp_path / "activations")
    passes = [plain(arrays, window) for window in ids]
    for layer in range(LAYERS):
        cosines = [
            before @ after / np.linalg.norm(before) / np.linalg.norm(after)
            for flows, _ in passes
            for before, after in zip(flows[layer], flows[layer + 1], strict=True)
        ]
        assert found.influence[layer] == pytest.approx(1 - np.mean(cosines), abs=1e-5)
    header = read_header(found.path)
    assert len(header.tensors) == 7 * LAYERS
    for name in passes[0][1]:
        expected = np.sqrt(sum((inputs[name] ** 2).sum(0) for _, inputs in passes))
        assert np.allclose(read_floats(header, f"{name}.input_norm"), expected, rtol=1e-4)


def test_a_layer_that_adds_nothing_has_no_influence_and_goes_first(tmp_path: Path) -> None:
    arrays = drawn()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        arrays[f"model.layers.1.{name}.weight"][:] = 0
    source = read_checkpoint(saved(tmp_path / "model", arrays))
    found = collect(source, Windows(np.array([[1, 2, 3, 4]]), "text"), tmp_path / "activations")
    assert found.influence[1] == pytest.approx(0, abs=1e-6)
    assert least(found.influence, 1) == (1,)


def test_influence_by_hand() -> None:
    right = np.array([[1.0, 0.0]], np.float32)
    assert block_influence(right, right * 5) == 0
    assert block_influence(right, np.array([[0.0, 2.0]], np.float32)) == 1
    assert block_influence(right, -right) == 2
    assert block_influence(right, np.array([[1.0, 1.0]], np.float32)) == pytest.approx(1 - 1 / math.sqrt(2))
    assert block_influence(right, 0 * right) == 1


def test_layers_asked_for_by_number_are_not_automatic() -> None:
    assert read_auto("auto=3") == 3
    assert read_auto("3,4") is None
    for bad in ("auto", "auto=", "auto=0", "auto=-1", "auto=x", "automatic"):
        with pytest.raises(UsageError, match="number of layers"):
            read_auto(bad)
    with pytest.raises(UsageError, match="none would be left"):
        least([0.1, 0.2], 2)


def test_the_same_text_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_checkpoint(saved(tmp_path / "model", drawn()))
    windows = Windows(np.array([[1, 2, 3]]), "text")
    path = activations_file(tmp_path / "out")
    first = collect(source, windows, path)
    before = path.read_bytes()

    def never(*_words: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(activations, "_own", never)
        assert collect(source, windows, path) == first
        with pytest.raises(AssertionError):
            collect(source, Windows(windows.ids, "other"), path)
    path.write_bytes(before[:-3])
    assert collect(source, windows, path) == first
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "gemma3"}, "gemma3"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "positions"),
        ({"use_sliding_window": True}, "sliding"),
    ],
    ids=["type", "activation", "positions", "windows"],
)
def test_what_is_not_known_is_not_run_here(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    source = read_checkpoint(saved(tmp_path / "model", drawn(), **config))
    assert says in str(why_not(source))
    with pytest.raises(UsageError, match="cannot be run") as raised:
        collect(source, Windows(np.array([[1, 2]]), "text"), tmp_path / "activations")
    assert "--python" in str(raised.value.fix)


def test_a_tensor_that_nobody_knows_is_not_left_out_in_silence(tmp_path: Path) -> None:
    arrays = drawn() | {"model.layers.0.mlp.extra.weight": np.ones(3, np.float32)}
    assert "extra" in str(why_not(read_checkpoint(saved(tmp_path / "model", arrays))))


def _short(arrays: Arrays) -> None:
    arrays["model.layers.2.mlp.up_proj.weight"] = arrays["model.layers.2.mlp.up_proj.weight"][:-1]


def _huge(arrays: Arrays) -> None:
    arrays["model.layers.1.mlp.down_proj.weight"][:] = 3e38


def _without(arrays: Arrays) -> None:
    del arrays["model.layers.1.self_attn.v_proj.weight"]


@pytest.mark.parametrize("spoil", [_short, _huge, _without])
def test_models_that_do_not_fit_their_config_are_refused(tmp_path: Path, spoil: Callable[[Arrays], None]) -> None:
    arrays = drawn()
    spoil(arrays)
    source = read_checkpoint(saved(tmp_path / "model", arrays))
    with np.errstate(all="ignore"), pytest.raises(InputError):
        collect(source, Windows(np.array([[1, 2]]), "text"), tmp_path / "activations")
    assert not (tmp_path / "activations").exists()


def tokens(tmp_path: Path, text: str, **options: Any) -> np.ndarray:
    path = tmp_path / "text.jsonl"
    path.write_text(text)
    given = {"tokens": 100, "length": 4, "vocabulary": VOCABULARY, "python": None, **options}
    return read_windows(path, tmp_path, **given).ids


def test_windows_fill_across_lines_and_the_rest_is_left(tmp_path: Path) -> None:
    assert tokens(tmp_path, "[1,2,3]\n\n[4,5,6,7,8,9]\n").tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert tokens(tmp_path, "[1,2,3]", length=8, tokens=9).tolist() == [[1, 2, 3]]
    assert tokens(tmp_path, "[1,2,3,4,5,6]", length=2, tokens=5).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "[1, 10]", "[1, -1]", "[1, 2.5]", "[true, 1]", "hello", "[[1]]", "{}", "[" * 5000],
    ids=["empty", "one", "beyond", "negative", "fraction", "boolean", "words", "nested", "object", "deep"],
)
def test_texts_that_are_no_tokens_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        tokens(tmp_path, text)


def test_text_without_a_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the cat sat on the mat " * 10)
    options = {"tokens": 50, "length": 5, "vocabulary": 10, "python": None}
    with pytest.raises(InputError, match="no tokenizer") as raised:
        read_windows(tmp_path / "words.txt", tmp_path, **options)
    assert ".jsonl" in str(raised.value.fix)
    with pytest.raises(NotFoundError):
        read_windows(tmp_path / "nowhere.txt", tmp_path, **options)
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="UTF-8"):
        read_windows(tmp_path / "binary.txt", tmp_path, **options)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GridctlError, match=r"tokenizer|tokens"):
        read_windows(tmp_path / "words.txt", tmp_path, **options)
