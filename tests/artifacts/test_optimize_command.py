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
