"""Variants: the arithmetic against plain NumPy, the files against what was asked, and stops that lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.artifacts import optimizing
from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.optimizing import optimize, partial_folder
from gridctl.artifacts.pruning import quality_warnings, read_layers, read_pruning
from gridctl.artifacts.record import REPORT
from gridctl.artifacts.safetensors import Tensor, layout, read_header
from gridctl.artifacts.variant import Request, plan_variant
from gridctl.artifacts.verifying import verify
from gridctl.errors import InputError, Interrupted, UsageError

Arrays = dict[str, np.ndarray]
DTYPES = {"F32": np.float32, "F16": np.float16}
LAYERS = 3


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Nearest even by exact arithmetic in float64: 8 bits of significand."""
    wide = values.astype(np.float64)
    _, exponent = np.frexp(wide)
    step = np.ldexp(1.0, exponent - 8)
    return (np.rint(wide / step) * step).astype(np.float32)


def put(path: Path, arrays: Arrays, dtype: str) -> None:
    tensors = [Tensor(name, dtype, array.shape) for name, array in arrays.items()]
    head, places = layout(tensors, {"format": "pt"})
    data = bytearray(head)
    for place in sorted(places.values(), key=lambda place: place.start):
        array = arrays[place.name].astype(np.float32)
        data += (
            (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()
            if dtype == "BF16"
            else array.astype(DTYPES[dtype]).tobytes()
        )
    path.write_bytes(data)


def weights(rng: np.random.Generator, columns: int = 128) -> Arrays:
    arrays = {
        "lm_head.weight": rng.normal(size=(7, columns)),
        "model.embed_tokens.weight": rng.normal(size=(7, columns)),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        arrays[f"{at}.input_layernorm.weight"] = rng.normal(size=columns)
        arrays[f"{at}.self_attn.q_proj.weight"] = rng.normal(size=(64, columns)) * 0.02
        arrays[f"{at}.mlp.down_proj.weight"] = rng.normal(size=(32, 2 * columns)) * 0.02
    arrays["model.layers.0.self_attn.q_proj.weight"][3] = 0
    return arrays


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    def make(dtype: str = "BF16", columns: int = 128, poison: float | None = None) -> Path:
        arrays = weights(np.random.default_rng(1), columns)
        arrays = {name: to_bf16(array) for name, array in arrays.items()}
        if poison is not None:
            arrays["model.layers.1.mlp.down_proj.weight"][5, 6] = poison
        folder = tmp_path / "model"
        folder.mkdir()
        names = sorted(arrays)
        weight_map = {}
        for number, part in enumerate((names[:4], names[4:])):
            shard = f"model-0000{number + 1}-of-00002.safetensors"
            put(folder / shard, {name: arrays[name] for name in part}, dtype)
            weight_map |= dict.fromkeys(part, shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        config = {"num_hidden_layers": LAYERS, "layer_types": ["a", "b", "c"], "hidden_size": columns}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "old.bin").write_bytes(b"pickle")
        return folder

    return make


def make(folder: Path, out: Path, request: Request, **options: Any) -> Any:
    source = read_checkpoint(folder)
    return optimize(source, plan_variant(source, request), request, out, **options)


def floats(folder: Path, name: str) -> np.ndarray:
    found = read_checkpoint(folder)
    return read_floats(found.shards[found.tensors[name][0]], name)


def raw(folder: Path, name: str) -> np.ndarray:
    found = read_checkpoint(folder)
    shard, tensor = found.tensors[name]
    data = (folder / shard).read_bytes()[tensor.start : tensor.end]
    return np.frombuffer(data, np.int8 if tensor.dtype == "I8" else np.uint8)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_int8_codes_and_scales_are_what_the_formula_says(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(scheme="int8-w8a8"))
    name = "model.layers.0.self_attn.q_proj.weight"
    weight = floats(source, name)
    scale = to_bf16(np.abs(weight).max(1, keepdims=True) / np.float32(127.5))
    scale[scale == 0] = 2.0**-7
    codes = np.clip(np.rint(to_bf16(weight / scale)), -128, 127).astype(np.int8)
    assert np.array_equal(floats(tmp_path / "out", f"{name}_scale"), scale)
    assert np.array_equal(raw(tmp_path / "out", name), codes.ravel())


def test_w4a16_packs_value_plus_eight_low_nibble_first(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(scheme="w4a16"))
    name = "model.layers.2.mlp.down_proj.weight"
    weight = floats(source, name).reshape(32, 2, 128)
    scale = to_bf16(np.abs(weight).max(2, keepdims=True) / np.float32(7.5))
    codes = (np.clip(np.rint(to_bf16(weight / scale)), -8, 7) + 8).astype(np.uint8).reshape(32, 256)
    assert np.array_equal(raw(tmp_path / "out", f"{name}_packed"), (codes[:, ::2] | codes[:, 1::2] << 4).ravel())
    assert np.array_equal(raw(tmp_path / "out", f"{name}_shape").view("<i8"), [32, 256])


def test_fp8_codes_are_the_nearest_of_all_e4m3_values(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(scheme="fp8"))
    name = "model.layers.1.self_attn.q_proj.weight"
    ratio = to_bf16(floats(source, name) / floats(tmp_path / "out", f"{name}_scale")).ravel()
    table = [m / 8 * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:-1]
    values = np.array(table)
    distance = np.abs(np.minimum(np.abs(ratio), 448)[:, None] - values)
    even = np.arange(127) % 2 == 0
    nearest = np.where(distance == distance.min(1, keepdims=True), 2 - even, 0)
    expected = np.where(nearest == 0, 9, nearest).argmin(1) | (np.signbit(ratio) * 128)
    assert np.array_equal(raw(tmp_path / "out", name), expected.astype(np.uint8))


def test_neither_threads_nor_block_size_change_a_byte(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model("F16")
    request = Request(scheme="w4a16", prune=read_pruning("magnitude=0.2"))
    make(source, tmp_path / "a", request, threads=1, block_elements=1)
    make(source, tmp_path / "b", request, threads=3, block_elements=1000)
    make(source, tmp_path / "c", request)
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_shards_index_and_companions_are_kept_and_pickles_left(model: Callable[..., Path], tmp_path: Path) -> None:
    make(model(), tmp_path / "out", Request(scheme="fp8"))
    assert sorted(files(tmp_path / "out")) == [
        "config.json",
        REPORT,
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    verify(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert found["format"] == "float-quantized"
    assert found["ignore"] == ["lm_head", "re:.*embed_tokens$"]
    assert "sparsity_config" not in found
    assert json.loads((tmp_path / "out" / REPORT).read_text())["quality"] == "unmeasured"


def test_columns_that_groups_do_not_divide_stay_and_are_listed(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model(columns=64)
    make(source, tmp_path / "out", Request(scheme="w4a16"))
    name = "model.layers.0.self_attn.q_proj"
    assert np.array_equal(floats(tmp_path / "out", f"{name}.weight"), floats(source, f"{name}.weight"))
    assert name in json.loads((tmp_path / "out/config.json").read_text())["quantization_config"]["ignore"]
    verify(tmp_path / "out")


def test_dropped_layers_go_and_the_others_are_numbered_anew(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(drop=(1,)))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["num_hidden_layers"], config["layer_types"]) == (2, ["a", "c"])
    moved = "model.layers.{}.mlp.down_proj.weight"
    assert np.array_equal(floats(tmp_path / "out", moved.format(1)), floats(source, moved.format(2)))
    assert moved.format(2) not in read_checkpoint(tmp_path / "out").tensors


def adapter(folder: Path, rows: int = 64, module: str = "model.layers.1.self_attn.q_proj", **config: Any) -> Arrays:
    rng = np.random.default_rng(5)
    folder.mkdir()
    down, up = rng.normal(size=(4, 128)).astype(np.float32), rng.normal(size=(rows, 4)).astype(np.float32)
    at = f"base_model.model.{module}.lora_"
    put(folder / "adapter_model.safetensors", {f"{at}A.weight": down, f"{at}B.weight": up}, "F32")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}))
    return {"up": up, "down": down}


def test_a_merged_adapter_adds_alpha_over_rank_times_b_a(model: Callable[..., Path], tmp_path: Path) -> None:
    source, parts = model("F32"), adapter(tmp_path / "lora")
    make(source, tmp_path / "out", Request(adapter=tmp_path / "lora"))
    name = "model.layers.1.self_attn.q_proj.weight"
    expected = floats(source, name).astype(np.float64) + 2.0 * parts["up"].astype(np.float64) @ parts["down"]
    assert np.allclose(floats(tmp_path / "out", name), expected, rtol=1e-6, atol=1e-5)
    other = "model.layers.0.self_attn.q_proj.weight"
    assert np.array_equal(floats(tmp_path / "out", other), floats(source, other))


def test_merging_and_quantising_at_once_is_one_after_the_other(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    adapter(tmp_path / "lora")
    make(source, tmp_path / "merged", Request(adapter=tmp_path / "lora", drop=(0,)))
    make(tmp_path / "merged", tmp_path / "two", Request(scheme="int8-w8a8"))
    make(source, tmp_path / "one", Request(adapter=tmp_path / "lora", drop=(0,), scheme="int8-w8a8"))
    for shard in read_checkpoint(tmp_path / "one").shards:
        assert (tmp_path / "one" / shard).read_bytes() == (tmp_path / "two" / shard).read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"rows": 63}, "63"),
        ({"module": "model.layers.9.self_attn.q_proj"}, "does not have"),
        ({"r": 0}, "not numbers"),
    ],
    ids=["dora", "loha", "shape", "unknown", "rank"],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    model: Callable[..., Path], tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    source = model()
    adapter(tmp_path / "lora", **options)
    with pytest.raises(InputError, match=says):
        plan_variant(read_checkpoint(source), Request(adapter=tmp_path / "lora"))


def test_magnitude_zeroes_the_smallest_of_each_row_exactly(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(prune=read_pruning("magnitude=0.25")))
    name = "model.layers.1.mlp.down_proj.weight"
    before, after = floats(source, name), floats(tmp_path / "out", name)
    for row in range(32):
        order = np.argsort(np.abs(before[row]), kind="stable")
        assert set(np.flatnonzero(after[row] == 0)) == set(order[:64])
        assert np.array_equal(after[row][order[64:]], before[row][order[64:]])


def test_wanda_weighs_by_the_norms_of_inputs(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    rng = np.random.default_rng(9)
    norms = {
        f"model.layers.{layer}.{module}.input_norm": rng.uniform(0.1, 9, columns)
        for layer in range(LAYERS)
        for module, columns in (("self_attn.q_proj", 128), ("mlp.down_proj", 256))
    }
    put(tmp_path / "norms.safetensors", norms, "F32")
    request = Request(prune=read_pruning("wanda=0.5"), activations=tmp_path / "norms.safetensors")
    make(source, tmp_path / "out", request)
    name = "model.layers.2.self_attn.q_proj"
    score = np.abs(floats(source, f"{name}.weight")) * norms[f"{name}.input_norm"].astype(np.float32)
    gone = floats(tmp_path / "out", f"{name}.weight") == 0
    for row in range(64):
        assert set(np.flatnonzero(gone[row])) == set(np.argsort(score[row], kind="stable")[:64])


def test_two_of_four_keeps_the_two_largest(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    make(source, tmp_path / "out", Request(prune=read_pruning("2:4")))
    name = "model.layers.1.self_attn.q_proj.weight"
    before = np.abs(floats(source, name)).reshape(-1, 4)
    after = np.abs(floats(tmp_path / "out", name)).reshape(-1, 4)
    assert np.array_equal(np.sort(after, 1)[:, 2:], np.sort(before, 1)[:, 2:])
    assert not np.sort(after, 1)[:, :2].any()


def test_the_weight_error_is_that_of_the_restored_weights(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model("F32")
    done = make(source, tmp_path / "out", Request(scheme="int8-w8a8"))
    name = "model.layers.1.mlp.down_proj.weight"
    weight = floats(source, name).astype(np.float64)
    restored = raw(tmp_path / "out", name).reshape(weight.shape) * floats(tmp_path / "out", f"{name}_scale").astype(
        float
    )
    expected = np.sqrt(((weight - restored) ** 2).sum() / (weight**2).sum())
    assert next(e.error for e in done.errors if e.name == name) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "minus-inf"])
def test_weights_that_are_not_finite_are_refused(model: Callable[..., Path], tmp_path: Path, poison: float) -> None:
    source = model(poison=poison)
    with np.errstate(all="ignore"), pytest.raises(InputError, match=r"layers\.1\.mlp\.down_proj"):
        make(source, tmp_path / "out", Request(scheme="fp8"))
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_goes_on_and_ends_on_the_same_bytes(
    model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model()
    request = Request(scheme="w4a16")
    make(source, tmp_path / "whole", request)
    calls = 0

    def stop_at_third(_bytes: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="kept"):
        make(source, tmp_path / "out", request, advance=stop_at_third)
    with (partial_folder(tmp_path / "out") / optimizing.JOURNAL).open("a") as journal:
        journal.write('["model.layers.2.mlp')
    done = make(source, tmp_path / "out", request)
    assert done.resumed == 3
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not partial_folder(tmp_path / "out").exists()


def test_another_request_starts_anew(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()

    def stop(_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        make(source, tmp_path / "out", Request(scheme="w4a16"), advance=stop)
    assert make(source, tmp_path / "out", Request(scheme="fp8")).resumed == 0
    verify(tmp_path / "out")


def test_a_target_that_exists_is_left_alone(model: Callable[..., Path], tmp_path: Path) -> None:
    source = model()
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        make(source, tmp_path / "out", Request(scheme="fp8"))


def test_pickles_quantised_sources_and_paths_in_an_index_are_refused(
    model: Callable[..., Path], tmp_path: Path
) -> None:
    source = model()
    make(source, tmp_path / "fp8", Request(scheme="fp8"))
    with pytest.raises(InputError, match="quantised already"):
        plan_variant(read_checkpoint(tmp_path / "fp8"), Request(scheme="fp8"))
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(InputError, match="no file name"):
        read_checkpoint(source)
    for path in source.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(InputError, match=r"old\.bin"):
        read_checkpoint(source)


def test_what_ruins_models_needs_consent() -> None:
    assert quality_warnings(read_pruning("magnitude=0.29"), 0, 0) == ()
    assert "5.85" in quality_warnings(read_pruning("magnitude=0.3"), 0, 0)[0]
    assert "no engine here runs 2:4 faster" in quality_warnings(read_pruning("2:4"), 0, 0)[0]
    assert quality_warnings(None, 8, 32) == ()
    assert quality_warnings(None, 9, 32)


def test_layers_are_read_as_numbers_and_ranges() -> None:
    assert read_layers("3,7,10-12,3") == (3, 7, 10, 11, 12)
    for bad in ("", "a", "5-3", "-1", "1,,2"):
        with pytest.raises(UsageError):
            read_layers(bad)


REFERENCE = """
import sys
from llmcompressor import model_free_ptq
for preset, out in (("FP8_DYNAMIC", "fp8"), ("W8A8", "int8-w8a8"), ("W4A16", "w4a16")):
    model_free_ptq(sys.argv[1], f"{sys.argv[2]}/{out}", scheme=preset, ignore=["lm_head", "re:.*embed_tokens$"],
                   max_workers=1, device="cpu")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GRIDCTL_LLMC_PYTHON"), reason="GRIDCTL_LLMC_PYTHON names no Python")
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_folders_are_byte_for_byte_those_of_llm_compressor(
    model: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    source = model(dtype)
    (source / "old.bin").unlink()
    assert_runs(REFERENCE, source, tmp_path / "reference")
    for scheme in ("fp8", "int8-w8a8", "w4a16"):
        make(source, tmp_path / scheme, Request(scheme=scheme))
        ours = files(tmp_path / scheme)
        del ours[REPORT]
        assert ours == files(tmp_path / "reference" / scheme)


LLAMA = """
import sys, torch
from llmcompressor import model_free_ptq
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(3)
shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **shape)).to(torch.bfloat16).save_pretrained(sys.argv[1])
for preset, out in (("FP8_DYNAMIC", "fp8"), ("W8A8", "int8-w8a8"), ("W4A16", "w4a16")):
    model_free_ptq(sys.argv[1], f"{sys.argv[2]}/{out}", scheme=preset, ignore=["lm_head", "re:.*embed_tokens$"],
                   max_workers=1, device="cpu")
"""
LOGITS = """
import sys, torch
from transformers import AutoModelForCausalLM
tokens = torch.arange(48).reshape(2, 24)
def logits(folder):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)(tokens).logits
for out in ("fp8", "int8-w8a8", "w4a16"):
    assert torch.equal(logits(f"{sys.argv[1]}/{out}"), logits(f"{sys.argv[2]}/{out}")), out
smaller = logits(f"{sys.argv[2]}/small")
assert torch.isfinite(smaller).all() and smaller.shape == (2, 24, 64)
"""


def assert_runs(script: str, *arguments: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [os.environ["GRIDCTL_LLMC_PYTHON"], "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GRIDCTL_LLMC_PYTHON"), reason="GRIDCTL_LLMC_PYTHON names no Python")
def test_transformers_loads_every_artefact_and_answers_as_with_the_reference(tmp_path: Path) -> None:
    source, reference, ours = tmp_path / "llama", tmp_path / "reference", tmp_path / "ours"
    assert_runs(LLAMA, source, reference)
    for scheme in ("fp8", "int8-w8a8", "w4a16"):
        make(source, ours / scheme, Request(scheme=scheme))
    small = Request(scheme="w4a16", drop=(0,), prune=read_pruning("magnitude=0.1"))
    make(source, ours / "small", small)
    assert_runs(LOGITS, reference, ours)


KILLED = """
import os, signal, sys
from pathlib import Path
from gridctl.artifacts import optimizing
from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.variant import Request, plan_variant
optimizing.SYNC_BYTES = 1
left = int(sys.argv[3])
def advance(_bytes):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
source, request = read_checkpoint(Path(sys.argv[1])), Request(scheme="fp8")
optimizing.optimize(source, plan_variant(source, request), request, Path(sys.argv[2]), threads=2, advance=advance)
"""


@pytest.mark.parametrize("tensors", [1, 5, 11])
def test_a_killed_run_leaves_no_target_and_goes_on(model: Callable[..., Path], tmp_path: Path, tensors: int) -> None:
    source = model()
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "out"), str(tensors)]
    done = subprocess.run(command, check=False, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert make(source, tmp_path / "out", Request(scheme="fp8")).resumed == tensors
    make(source, tmp_path / "whole", Request(scheme="fp8"))
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "bytes follow"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, "beyond"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "gap"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "is not 4 bytes"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "counts"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, "range"),
        ({"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}}, "dtype"),
        (
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            },
            "overlaps",
        ),
    ],
    ids=["left-over", "beyond", "gap", "size", "negative", "backwards", "dtype", "overlap"],
)
def test_headers_that_lie_are_refused(tmp_path: Path, described: dict[str, Any], says: str) -> None:
    text = json.dumps(described).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(InputError, match=says):
        read_header(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        b"\xff" * 8,
        (9).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"PK\x03\x04" * 9,
    ],
    ids=["empty", "short", "huge", "truncated", "list", "zip"],
)
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_header(path)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    one = '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = f"{{{one},{one}}}".encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InputError, match="twice"):
        read_header(path)
