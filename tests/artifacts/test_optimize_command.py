"""`gridctl model optimize` and `verify` as a user runs them: exit codes, stdout and stderr apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gridctl.artifacts.safetensors import Tensor, layout
from tests.artifacts.tinyllama import INNER, drawn, saved

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shapes = {"lm_head.weight": (4, 128), "model.layers.0.mlp.up_proj.weight": (6, 128)}
    head, places = layout([Tensor(name, "F32", shape) for name, shape in shapes.items()])
    size = sum(place.size for place in places.values())
    folder = tmp_path / "model"
    folder.mkdir()
    values = np.random.default_rng(0).normal(size=size // 4).astype("<f4")
    (folder / "model.safetensors").write_bytes(head + values.tobytes())
    (folder / "config.json").write_text('{"num_hidden_layers": 1}')
    return folder


def gridctl(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "gridctl", *words], cwd=at, env=environment, capture_output=True, text=True, check=False
    )


def test_a_variant_is_made_listed_and_found_sound(model: Path, tmp_path: Path) -> None:
    planned = gridctl("model", "optimize", "model", "--out", "w4", "--scheme", "w4a16", "--dry-run", at=tmp_path)
    assert planned.returncode == 0
    assert "nothing was written" in planned.stderr
    assert not (tmp_path / "w4").exists()
    made = gridctl("model", "optimize", "model", "--out", "w4", "--scheme", "w4a16", "-o", "json", at=tmp_path)
    assert made.returncode == 0, made.stderr
    (row,) = json.loads(made.stdout)["items"]
    # 6 × 128 weights: half a byte each, a float32 scale for each group of 128, and the shape's two numbers
    assert (row["bytes_in"], row["bytes_out"]) == (6 * 128 * 4, 6 * 64 + 6 * 4 + 16)
    assert "quality: unmeasured" in made.stderr
    checked = gridctl("model", "verify", "w4", at=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "sound" in checked.stderr


def test_a_damaged_artefact_is_not_sound(model: Path, tmp_path: Path) -> None:
    assert gridctl("model", "optimize", "model", "--out", "q", "--scheme", "int8-w8a8", at=tmp_path).returncode == 0
    path = tmp_path / "q" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    checked = gridctl("model", "verify", "q", at=tmp_path)
    assert checked.returncode == 3
    assert "model.safetensors" in checked.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--scheme", "fp9"], 2, "fp8, int8-w8a8, w4a16"),
        (["--scheme", "gptq"], 2, "gptq-w4a16"),
        (["--scheme", "gptq-w4a16"], 2, "--calibration-text"),
        (["--scheme", "nvfp4a16", "--merge-lora", "x"], 2, "not combined"),
        (["--scheme", "nvfp4a16", "--python", "nowhere"], 4, "no Python"),
        (["--scheme", "sparsegpt-2:4", "--calibration-text", "model/config.json"], 2, "no engine here runs 2:4 faster"),
        (["--drop-layers", "auto=1", "--accept-quality-loss"], 2, "--calibration-text"),
        (["--drop-layers", "auto=x"], 2, "auto=4"),
        (["--drop-layers", "auto=1"], 2, "--accept-quality-loss"),
        (["--scheme", "fp8", "--calibration-text", "x"], 2, "nothing asks for text"),
        (["--scheme", "fp8", "--ignore", "re:("], 2, "no pattern"),
        (["--prune", "magnitude=0.5"], 2, "--accept-quality-loss"),
        (["--prune", "wanda=0.3"], 2, "--activations"),
        (["--prune", "magnitude=nan"], 2, "--prune"),
        (["--drop-layers", "0", "--accept-quality-loss"], 2, "no layer is left"),
        (["--merge-lora", "nowhere"], 4, "adapter_config.json"),
        ([], 2, "nothing to do"),
    ],
    ids=[
        "scheme",
        "nearly",
        "calibrated",
        "combined",
        "python",
        "sparse",
        "auto",
        "auto-what",
        "auto-much",
        "text",
        "pattern",
        "magnitude",
        "wanda",
        "nan",
        "layers",
        "adapter",
        "nothing",
    ],
)
def test_bad_input_is_refused_with_an_empty_stdout(
    model: Path, tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    done = gridctl("model", "optimize", "model", "--out", "out", *words, at=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_layers_of_least_influence_are_named_recorded_and_dropped(tmp_path: Path) -> None:
    arrays = drawn()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        arrays[f"model.layers.1.{name}.weight"][:] = 0  # what enters layer 1 leaves it unchanged
    saved(tmp_path / "llama", arrays, intermediate_size=INNER)
    (tmp_path / "text.jsonl").write_text("[1, 2, 3, 4, 5, 6, 7, 8]\n")
    words = [
        "model",
        "optimize",
        "llama",
        "--out",
        "small",
        "--drop-layers",
        "auto=1",
        "--calibration-text",
        "text.jsonl",
    ]
    refused = gridctl(*words, at=tmp_path)
    assert (refused.returncode, "--accept-quality-loss" in refused.stderr) == (2, True)
    words.append("--accept-quality-loss")
    planned = gridctl(*words, "--dry-run", at=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "text.jsonl"]
    made = gridctl(*words, at=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "which go: 1 (" in made.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "small", "text.jsonl"]
    record = json.loads((tmp_path / "small" / "gridctl-optimize.json").read_text())
    assert record["request"]["drop_layers"] == [1]
    assert record["influence"][1] < 1e-6 < min(record["influence"][0], record["influence"][2])
    assert json.loads((tmp_path / "small" / "config.json").read_text())["num_hidden_layers"] == 2
    variant = gridctl("model", "variant", "small", "--model", "tiny", at=tmp_path)
    assert "layers 1 dropped" in variant.stdout
    assert "name: bf16-d1" in variant.stdout
    assert "quality" not in variant.stdout


def test_wanda_sees_the_model_on_a_text(tmp_path: Path) -> None:
    saved(tmp_path / "llama", drawn())
    (tmp_path / "text.jsonl").write_text("[1, 2, 3, 4, 5, 6, 7, 8]\n")
    words = ["--prune", "wanda=0.4", "--calibration-text", "text.jsonl", "-o", "json"]
    made = gridctl("model", "optimize", "llama", "--out", "out", *words, at=tmp_path)
    assert made.returncode == 0, made.stderr
    assert len(json.loads(made.stdout)["items"]) == 3 * 7
    record = json.loads((tmp_path / "out" / "gridctl-optimize.json").read_text())
    assert record["request"]["activations"].startswith("sha256:")
    assert record["recipe"] is None, "a site has no activations to make it by"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "out", "text.jsonl"]


def test_an_adapter_that_is_a_pickle_is_not_read(model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    (tmp_path / "adapter/adapter_model.bin").write_bytes(b"\x80\x04.")
    done = gridctl("model", "optimize", "model", "--out", "out", "--merge-lora", "adapter", at=tmp_path)
    assert done.returncode == 3
    assert "pickle" in done.stderr


def test_a_link_where_the_variant_is_made_is_not_followed(model: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    (tmp_path / ".out.partial").symlink_to(elsewhere)
    done = gridctl("model", "optimize", "model", "--out", "out", "--scheme", "fp8", at=tmp_path)
    assert (done.returncode, "symbolic link" in done.stderr) == (3, True)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_nothing_is_left_of_a_model_with_weights_that_are_not_finite(model: Path, tmp_path: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + np.array([np.inf], "<f4").tobytes())
    done = gridctl("model", "optimize", "model", "--out", "out", "--scheme", "fp8", at=tmp_path)
    assert (done.returncode, "infinite" in done.stderr) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
