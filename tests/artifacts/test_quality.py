"""Quality: the score's arithmetic, its way into the manifest, and what the router does without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.described import architecture, described
from gridctl.artifacts.interpreter import find_interpreter
from gridctl.artifacts.quality import Quality
from gridctl.artifacts.record import REPORT, record_quality
from gridctl.errors import InputError, NotFoundError, UsageError
from gridctl.resources.model import Model, ModelSpec, Variant
from gridctl.resources.resource import Metadata
from tests.artifacts.conftest import bf16, write_safetensors

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 64,
    "max_position_embeddings": 4096,
}


def gridctl(*words: str, at: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDCTL_")}
    environment |= {
        "PYTHONPATH": str(REPOSITORY),
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": str(at / "configuration"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "gridctl", *words], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def model(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    shape = (512, 256)
    tensors = {"model.layers.0.mlp.up_proj.weight": ("BF16", shape, bf16(draw.standard_normal(512 * 256)))}
    write_safetensors(tmp_path / "model/model.safetensors", tensors)
    (tmp_path / "model/config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "model"


def test_the_score_is_the_bases_times_the_ratio_of_perplexities() -> None:
    assert Quality(0.1, 0.9, 6.0, 8.0, 10, "", "").score(0.8) == 0.6
    assert Quality(0.1, 0.9, 6.0, 5.0, 10, "", "").score(0.8) == 0.8, "a variant is not better than its base"
    assert Quality(0.1, 0.9, 6.0, 5.0, 10, "", "").score(0.0) == 0.0


def test_an_unmeasured_variant_has_no_quality_in_its_manifest(model: Path) -> None:
    found = read_checkpoint(model)
    (model / REPORT).write_text(json.dumps({"quality": "unmeasured", "request": {"scheme": "fp8"}}))
    assert described(found, "m", "fp8", None).spec.variants[0].quality is None
    record_quality(model, 0.7, {"predictions": 5})
    made = described(found, "m", "fp8", None)
    assert made.spec.variants[0].quality == 0.7
    assert made.spec.variants[0].lineage == "scheme fp8"
    assert made.spec.max_context == 4096
    # 512 · 256 weights of two bytes are 0.000244 GiB, told with four digits and never too small
    assert made.spec.variants[0].weight_gib == 0.0003


def test_variants_that_the_grid_has_are_kept(model: Path) -> None:
    found = read_checkpoint(model)
    variants = (Variant(name="bf16", quality=0.8), Variant(name="fp8", dtype="fp8", quality=0.1))
    spec = ModelSpec(architecture=architecture(CONFIG), variants=variants, max_context=99)
    known = Model(metadata=Metadata(name="m", labels={"team": "a"}), spec=spec)
    made = described(found, "m", "fp8", known)
    assert [(v.name, v.quality) for v in made.spec.variants] == [("bf16", 0.8), ("fp8", None)]
    assert (made.metadata.labels, made.spec.max_context) == ({"team": "a"}, 99)


def test_the_architecture_of_experts_and_nested_configurations() -> None:
    text = {**CONFIG, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "head_dim": 32}
    shape = architecture({"text_config": text})
    assert (shape.experts, shape.experts_per_token, shape.intermediate_size, shape.head_dim) == (8, 2, 128, 32)
    with pytest.raises(InputError, match="architecture"):
        architecture({"hidden_size": 5})


def test_the_router_refuses_an_unmeasured_variant_and_takes_a_measured_one(model: Path, tmp_path: Path) -> None:
    gridctl("init", "grid", "--example", "metro", at=tmp_path)
    grid = tmp_path / "grid"
    gridctl("apply", "-f", ".", at=grid)
    made = gridctl("model", "optimize", "model", "--out", "w4", "--scheme", "w4a16", at=tmp_path)
    assert "quality: unmeasured" in made.stderr

    def milan(floor_says: str) -> list[str]:
        manifest = gridctl("model", "variant", "../w4", "--model", "llama-3.1-8b", "--name", "w4a16", at=grid)
        (grid / "variant.yaml").write_text(manifest.stdout)
        assert floor_says in manifest.stderr
        gridctl("apply", "-f", "variant.yaml", at=grid)
        words = ["route", "test", "--origin", "it-milan-01", "--workload", "voice-agent", "--model", "llama-3.1-8b"]
        rows = json.loads(gridctl(*words, "-o", "json", at=grid).stdout)["decision"]["candidates"]
        return [row["cluster"] for row in rows if row["variant"] == "w4a16"]

    assert milan("fails every quality floor") == []
    record_quality(tmp_path / "w4", 0.59, {})
    assert milan("") == [], "the workload's floor is 0.6"
    record_quality(tmp_path / "w4", 0.61, {})
    assert milan("") == ["milan-rtx"]


def test_a_python_without_what_is_needed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"measuring quality needs .*torch") as raised:
        find_interpreter(None, ("torch", "no-such-package"), "measuring quality")
    assert "pip install torch" in str(raised.value.fix)
    with pytest.raises(NotFoundError, match="no Python"):
        find_interpreter(tmp_path / "python", (), "this")
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\necho hello\n")
    liar.chmod(0o755)
    with pytest.raises(UsageError, match="no Python"):
        find_interpreter(liar, (), "this")


def test_what_is_missing_is_said_before_anything_is_made(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text("[1, 2, 3]")
    words = ["model", "optimize", "model", "--out", "out", "--scheme", "fp8", "--quality-text", "text.jsonl"]
    liar = tmp_path / "python"
    liar.write_text("#!/bin/sh\necho '{}'\n")
    liar.chmod(0o755)
    done = gridctl(*words, "--python", str(liar), at=tmp_path, code=2)
    assert "torch and transformers and compressed-tensors" in done.stderr
    assert not (tmp_path / "out").exists()
    gridctl("model", "verify", "model", "--quality-text", "text.jsonl", at=tmp_path, code=2)
