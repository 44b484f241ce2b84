"""model verify: codes, scales, what engines fuse and what they cut, each rule broken once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.optimizing import optimize
from gridctl.artifacts.variant import Request, plan_variant
from gridctl.artifacts.verifying import verify
from gridctl.errors import GridctlError, InputError
from tests.artifacts.conftest import bf16, write_safetensors

Edit = Callable[[dict[str, tuple[str, tuple[int, ...], bytes]], dict[str, Any]], None]
SHAPES = {
    "self_attn.q_proj": (256, 256),
    "self_attn.k_proj": (128, 256),
    "self_attn.v_proj": (128, 256),
    "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (768, 256),
    "mlp.up_proj": (768, 256),
    "mlp.down_proj": (256, 768),
}
LAYER = "model.layers.0."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    tensors = {
        f"{LAYER}{name}.weight": ("BF16", shape, bf16(draw.standard_normal(shape[0] * shape[1])))
        for name, shape in SHAPES.items()
    }
    write_safetensors(tmp_path / "model/model.safetensors", tensors)
    config = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    return tmp_path / "model"


def made(source: Path, scheme: str, *ignore: str) -> Path:
    found = read_checkpoint(source)
    request = Request(scheme=scheme, ignore=ignore)
    out = source.parent / f"{scheme}{len(ignore)}"
    optimize(found, plan_variant(found, request), request, out)
    return out


def edited(folder: Path, edit: Edit) -> Path:
    """The folder with its tensors and configuration changed, written again."""
    found = read_checkpoint(folder)
    data = (folder / "model.safetensors").read_bytes()
    tensors = {
        name: (tensor.dtype, tensor.shape, data[tensor.start : tensor.end])
        for name, (_shard, tensor) in found.tensors.items()
    }
    config = json.loads((folder / "config.json").read_text())
    edit(tensors, config)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    return folder


def problems(folder: Path, ranks: int = 1) -> str:
    with pytest.raises(InputError) as raised:
        verify(folder, ranks)
    return " | ".join(error.what for error in (raised.value, *raised.value.related))


@pytest.mark.parametrize("scheme", ["fp8", "int8-w8a8", "w4a16"])
def test_what_optimize_makes_is_sound_and_shared_out_by_two(model: Path, scheme: str) -> None:
    verify(made(model, scheme), 2)


@pytest.mark.parametrize(
    ("scheme", "ignore", "says"),
    [
        ("fp8", "re:.*k_proj$", "q_proj, k_proj, v_proj are one matrix to an engine, and k_proj is not quantised"),
        ("w4a16", f"{LAYER}mlp.up_proj", "gate_proj, up_proj are one matrix"),
    ],
    ids=["k", "up"],
)
def test_parts_that_engines_fuse_are_quantised_together(model: Path, scheme: str, ignore: str, says: str) -> None:
    assert says in problems(made(model, scheme, ignore))


def test_all_parts_of_a_fused_matrix_may_stay_as_they_are(model: Path) -> None:
    verify(made(model, "fp8", r"re:.*\.(q|k|v)_proj$", "re:.*o_proj$"))


def test_ranks_must_share_heads_rows_columns_and_whole_groups(model: Path) -> None:
    four_bits = made(model, "w4a16")
    # 768 columns over 4 ranks are 192, one group of 128 and a half; 256 over 4 are 64
    assert "down_proj (256 × 768): 192 columns of a rank are not whole groups of 128" in problems(four_bits, 4)
    assert "o_proj (256 × 256): 64 columns of a rank are not whole groups of 128" in problems(four_bits, 4)
    verify(made(model, "fp8"), 4)  # a scale for each row: no groups, and 2 KV heads are repeated on 4 ranks
    said = problems(made(model, "int8-w8a8"), 3)
    assert "4 attention heads cannot be shared out to 3 ranks" in said
    assert "2 KV heads can neither" in said
    assert "q_proj (256 × 256): its rows" in said
    assert "down_proj" not in said  # 768 = 3 · 256


def _no_scale(tensors: Any, _config: Any) -> None:
    dtype, shape, data = tensors[f"{LAYER}mlp.up_proj.weight_scale"]
    tensors[f"{LAYER}mlp.up_proj.weight_scale"] = (dtype, shape, bytes(len(data)))


def _wrong_shape(tensors: Any, _config: Any) -> None:
    tensors[f"{LAYER}mlp.up_proj.weight_shape"] = ("I64", (2,), np.array([768, 9999], "<i8").tobytes())


def _says_ignored(_tensors: Any, config: Any) -> None:
    config["quantization_config"]["ignore"].append("re:.*o_proj$")


def _forgets_ignored(_tensors: Any, config: Any) -> None:
    config["quantization_config"]["ignore"] = ["lm_head"]


def _other_format(_tensors: Any, config: Any) -> None:
    for group in config["quantization_config"]["config_groups"].values():
        group["format"] = "int-quantized"


def _sparse(_tensors: Any, config: Any) -> None:
    config["quantization_config"]["sparsity_config"] = {"format": "dense"}


def _silent(_tensors: Any, config: Any) -> None:
    del config["quantization_config"]


def _bad_pattern(_tensors: Any, config: Any) -> None:
    config["quantization_config"]["ignore"] = ["re:("]


def _no_codes(tensors: Any, _config: Any) -> None:
    del tensors[f"{LAYER}mlp.up_proj.weight_packed"]


def _odd_groups(tensors: Any, _config: Any) -> None:
    tensors[f"{LAYER}mlp.up_proj.weight_scale"] = ("BF16", (768, 3), bf16(np.ones(768 * 3)))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_no_scale, "not above 0"),
        (_wrong_shape, "does not tell the shape"),
        (_says_ignored, "`ignore` says that it is not"),
        (_forgets_ignored, "neither does `ignore` name it"),
        (_other_format, "is pack-quantized, config.json says int-quantized"),
        (_sparse, "sparsity_config"),
        (_silent, "does not say so"),
        (_bad_pattern, "no pattern"),
        (_no_codes, "scales no codes"),
        (_odd_groups, "do not share out 256 columns"),
    ],
)
def test_files_and_configuration_must_agree(model: Path, edit: Edit, says: str) -> None:
    assert says in problems(edited(made(model, "w4a16", "re:.*down_proj$"), edit))


def experts(folder: Path, *, turned: bool = False, intermediate: int = 384) -> Path:
    """Two experts in one tensor: (experts, 2 · intermediate, hidden) and (experts, hidden, intermediate)."""
    draw = np.random.default_rng(1)
    hidden = 256
    up, down = (2, 2 * intermediate, hidden), (2, hidden, intermediate)
    if turned:
        up, down = (2, hidden, 2 * intermediate), (2, intermediate, hidden)
    tensors = {
        f"{LAYER}mlp.experts.gate_up_proj": ("BF16", up, bf16(draw.standard_normal(int(np.prod(up))))),
        f"{LAYER}mlp.experts.down_proj": ("BF16", down, bf16(draw.standard_normal(int(np.prod(down))))),
        f"{LAYER}mlp.gate.weight": ("BF16", (2, hidden), bf16(draw.standard_normal(2 * hidden))),
    }
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 1, "hidden_size": hidden}))
    return folder


def test_fused_experts_come_apart_into_the_matrices_of_each(tmp_path: Path) -> None:
    source = experts(tmp_path / "experts")
    out = made(source, "int8-w8a8")
    found = verify(out)
    names = [f"{LAYER}mlp.experts.{e}.{part}_proj.weight" for e in range(2) for part in ("gate", "up", "down")]
    assert set(names) | {f"{LAYER}mlp.gate.weight"} == {n for n in found.tensors if n.endswith(".weight")}
    # expert 1's `up` is the second half of its rows; bfloat16 ratios add a quarter step to the half of rounding
    data = (source / "model.safetensors").read_bytes()
    place = read_checkpoint(source).tensors[f"{LAYER}mlp.experts.gate_up_proj"][1]
    bits = np.frombuffer(data[place.start : place.end], "<u2").astype(np.uint32) << 16
    whole = bits.view(np.float32).reshape(2, 2, 384, 256)[1, 1]
    made_bytes = (out / "model.safetensors").read_bytes()
    code, scale = (found.tensors[f"{LAYER}mlp.experts.1.up_proj.weight{end}"][1] for end in ("", "_scale"))
    codes = np.frombuffer(made_bytes[code.start : code.end], np.int8).reshape(384, 256)
    steps = (np.frombuffer(made_bytes[scale.start : scale.end], "<u2").astype(np.uint32) << 16).view(np.float32)
    assert (np.abs(codes * steps[:, None] - whole) / steps[:, None]).max() < 1


def test_experts_that_lie_the_other_way_round_are_refused(tmp_path: Path) -> None:
    for folder in (experts(tmp_path / "turned", turned=True), experts(tmp_path / "square", intermediate=256)):
        with pytest.raises(InputError, match="cannot be told apart"):
            made(folder, "fp8")


def test_experts_that_are_not_quantised_are_copied_as_they_are(tmp_path: Path) -> None:
    source = experts(tmp_path / "experts")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    found = read_checkpoint(source)
    request = Request(drop=(1,))
    optimize(found, plan_variant(found, request), request, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes()[-1000:] == (source / "model.safetensors").read_bytes()[
        -1000:
    ]
    from gridctl.artifacts.pruning import read_pruning

    with pytest.raises(GridctlError, match="not pruned"):
        plan_variant(found, Request(prune=read_pruning("magnitude=0.1")))
