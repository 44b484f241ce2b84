"""Against the tools that others use: transformers, PEFT and llm-compressor load, merge and compress as we do.

Needs GRIDCTL_LLMC_PYTHON: a Python with torch, transformers, peft and llm-compressor. Models are tiny and made here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridctl.artifacts.activations import collect
from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.delegation import DELEGATED, Delegation, command_line, compressor, delegate
from gridctl.artifacts.influence import least
from gridctl.artifacts.interpreter import find_interpreter
from gridctl.artifacts.lora import read_floats
from gridctl.artifacts.optimizing import optimize
from gridctl.artifacts.pruning import read_pruning
from gridctl.artifacts.quality import measure, measuring_interpreter
from gridctl.artifacts.record import REPORT
from gridctl.artifacts.safetensors import read_header
from gridctl.artifacts.tokens import Windows, read_windows
from gridctl.artifacts.variant import Request, plan_variant
from gridctl.artifacts.verifying import verify
from gridctl.errors import InputError

PYTHON = os.environ.get("GRIDCTL_LLMC_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="GRIDCTL_LLMC_PYTHON names no Python with llm-compressor"),
]
VOCABULARY, LENGTH = 96, 32

MAKE = """
import sys, torch, copy
from pathlib import Path
from safetensors.torch import load_file, save_file
from peft import LoraConfig, get_peft_model
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)
out = Path(sys.argv[1])
torch.manual_seed(3)
shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=96)
stretched = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 16, "rope_theta": 500000.0}
long = LlamaConfig(**shape, rope_parameters=stretched, max_position_embeddings=128)
LlamaForCausalLM(long).save_pretrained(out / "llama31")
Qwen2ForCausalLM(Qwen2Config(**shape)).save_pretrained(out / "qwen2")
Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=48)).save_pretrained(out / "qwen3")

model = LlamaForCausalLM(LlamaConfig(**shape))
cycle = torch.randperm(96)[:48]
text = cycle.repeat(40)
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for step in range(60):
    start = torch.randint(0, 48, (8,))
    batch = torch.stack([text[s:s + 33] for s in start])
    optimizer.zero_grad()
    model(batch, labels=batch).loss.backward()
    optimizer.step()
model.save_pretrained(out / "trained32")
model.to(torch.bfloat16).save_pretrained(out / "trained")
(out / "ids.jsonl").write_text(str(text[:512].tolist()))

small = copy.deepcopy(model)
small.model.layers = torch.nn.ModuleList([small.model.layers[0], small.model.layers[3]])
small.config.num_hidden_layers = 2
small.config.layer_types = None
small.save_pretrained(out / "reference-dropped")

for name, dtype, options in (("lora", torch.float32, {}), ("rslora", torch.float32, {"use_rslora": True}),
                             ("lora16", torch.bfloat16, {})):
    base = LlamaForCausalLM.from_pretrained(out / "trained32", dtype=dtype)
    modules = ["q_proj", "v_proj", "down_proj"]
    peft = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=modules, **options))
    for key, value in peft.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.05)
    peft.save_pretrained(out / name)
    peft.merge_and_unload().save_pretrained(out / f"reference-{name}")

experts = Qwen3MoeConfig(**shape, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256,
                         decoder_sparse_step=1)
Qwen3MoeForCausalLM(experts).to(torch.bfloat16).save_pretrained(out / "experts")
found = load_file(out / "experts/model.safetensors")
fused = {key: value for key, value in found.items() if ".experts." not in key}
for layer in range(4):
    at = f"model.layers.{layer}.mlp.experts"
    part = lambda name: torch.stack([found[f"{at}.{e}.{name}.weight"] for e in range(4)])
    fused[f"{at}.gate_up_proj"] = torch.cat([part("gate_proj"), part("up_proj")], 1).contiguous()
    fused[f"{at}.down_proj"] = part("down_proj")
(out / "fused").mkdir()
(out / "fused/config.json").write_bytes((out / "experts/config.json").read_bytes())
save_file(fused, out / "fused/model.safetensors", {"format": "pt"})

from llmcompressor import model_free_ptq
for preset, name in (("FP8_DYNAMIC", "fp8"), ("W4A16", "w4a16")):
    ignore = ["lm_head", "re:.*embed_tokens$", r"re:.*\\.(gate|router|shared_expert_gate)$"]
    target = str(out / f"reference-fused-{name}")
    model_free_ptq(str(out / "fused"), target, scheme=preset, ignore=ignore, max_workers=1, device="cpu")
"""
COMPARE = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
out = Path(sys.argv[1])
ids = torch.tensor(json.loads((out / "ids.jsonl").read_text())).reshape(16, 32)
def logits(name, **options):
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(out / name, dtype="auto", **options)(ids).logits.double()
assert torch.equal(logits("dropped"), logits("reference-dropped"))
found = {}
for name in ("lora", "rslora", "lora16"):
    ours, theirs = logits(f"merged-{name}"), logits(f"reference-{name}")
    found[name] = float((ours - theirs).abs().max() / theirs.abs().max())
fused, apart = logits("ours-fused-fp8"), logits("ours-apart-fp8")
assert torch.equal(fused, apart)
pruned = AutoModelForCausalLM.from_pretrained(out / "trained", dtype="auto")
for name, module in pruned.named_modules():
    if isinstance(module, torch.nn.Linear) and name != "lm_head":
        least = module.weight.float().abs().argsort(dim=1, stable=True)[:, :int(0.2 * module.in_features)]
        module.weight.data.scatter_(1, least, 0)
with torch.inference_mode():
    assert torch.equal(pruned(ids).logits.double(), logits("pruned"))
def odds(name):
    return torch.log_softmax(logits(name)[:, :-1].float(), -1).double()
base, variant = odds("trained"), odds("w4a16")
targets = ids[:, 1:, None]
found["quality"] = {
    "kl_nats": float((base.exp() * (base - variant)).sum(-1).mean()),
    "top1_agreement": float((base.argmax(-1) == variant.argmax(-1)).double().mean()),
    "perplexity_base": float((-base.gather(2, targets)).mean().exp()),
    "perplexity": float((-variant.gather(2, targets)).mean().exp()),
}
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def run(script: str, *arguments: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [PYTHON, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def made(source: Path, out: Path, request: Request) -> Path:
    found = read_checkpoint(source)
    optimize(found, plan_variant(found, request), request, out)
    verify(out)
    return out


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    run(MAKE, folder)
    return folder


@pytest.fixture(scope="module")
def compared(models: Path) -> dict[str, Any]:
    """What transformers answers with our folders and with the reference's."""
    made(models / "trained", models / "dropped", Request(drop=(1, 2)))
    made(models / "trained", models / "pruned", Request(prune=read_pruning("magnitude=0.2")))
    made(models / "trained", models / "w4a16", Request(scheme="w4a16"))
    for name in ("lora", "rslora"):
        made(models / "trained32", models / f"merged-{name}", Request(adapter=models / name))
    made(models / "trained", models / "merged-lora16", Request(adapter=models / "lora16"))
    made(models / "fused", models / "ours-fused-fp8", Request(scheme="fp8"))
    made(models / "experts", models / "ours-apart-fp8", Request(scheme="fp8"))
    run(COMPARE, models, models / "found.json")
    found = json.loads((models / "found.json").read_text())
    assert isinstance(found, dict)
    return found


def windows(models: Path) -> Windows:
    return read_windows(models / "ids.jsonl", models, tokens=512, length=LENGTH, vocabulary=VOCABULARY, python=None)


def test_dropped_pruned_and_fused_models_answer_exactly_as_the_reference(compared: dict[str, Any]) -> None:
    assert compared


@pytest.mark.parametrize(("name", "within"), [("lora", 1e-5), ("rslora", 1e-5), ("lora16", 0.03)])
def test_a_merged_adapter_answers_as_peft_merges_it(compared: dict[str, Any], name: str, within: float) -> None:
    # bfloat16: PEFT rounds the change and then the sum, we round once; both are a step of 2^-8 from exact
    assert compared[name] < within


@pytest.mark.parametrize("scheme", ["fp8", "w4a16"])
def test_fused_experts_come_apart_byte_for_byte_as_with_llm_compressor(models: Path, scheme: str) -> None:
    ours = made(models / "fused", models / f"fused-{scheme}", Request(scheme=scheme))
    theirs = models / f"reference-fused-{scheme}"
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    assert (ours / "config.json").read_bytes() == (theirs / "config.json").read_bytes()


@pytest.mark.parametrize("name", ["llama31", "qwen2", "qwen3", "trained32"])
def test_our_forward_pass_sees_what_transformers_sees(
    models: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_checkpoint(models / name)
    ours = collect(source, windows(models), tmp_path / "ours.safetensors")
    monkeypatch.setattr("gridctl.artifacts.activations.why_not", lambda _source: "asked not to")
    theirs = collect(source, windows(models), tmp_path / "theirs.safetensors", python=Path(PYTHON))
    assert ours.influence == pytest.approx(theirs.influence, rel=1e-4, abs=1e-6)
    own, other = read_header(ours.path), read_header(theirs.path)
    assert len(own.tensors) == 4 * 7
    assert set(other.tensors) - set(own.tensors) == {"lm_head.input_norm"}
    for norm in own.tensors:
        assert np.allclose(read_floats(own, norm), read_floats(other, norm), rtol=1e-4)


def test_quality_is_what_torch_makes_of_both_models(models: Path, compared: dict[str, Any]) -> None:
    other = measuring_interpreter(Path(PYTHON), is_quantized=True)
    found = measure(read_checkpoint(models / "trained"), models / "w4a16", windows(models), other)
    assert {key: getattr(found, key) for key in compared["quality"]} == pytest.approx(compared["quality"], rel=1e-4)
    assert found.predictions == 16 * (LENGTH - 1)
    assert found.perplexity_base < 3, "the model was trained on this text"


def test_a_base_that_guesses_gives_no_score(models: Path) -> None:
    other = measuring_interpreter(Path(PYTHON), is_quantized=False)
    with pytest.raises(InputError, match="cannot predict"):
        measure(read_checkpoint(models / "qwen2"), models / "qwen2", windows(models), other)


def test_the_layers_that_go_are_those_that_cost_least_here(models: Path, tmp_path: Path) -> None:
    source = read_checkpoint(models / "trained")
    seen = collect(source, windows(models), tmp_path / "activations")
    chosen = least(seen.influence, 1)
    other = measuring_interpreter(Path(PYTHON), is_quantized=False)
    lost = {}
    for layer in range(4):
        made(models / "trained", tmp_path / f"without-{layer}", Request(drop=(layer,)))
        lost[layer] = measure(source, tmp_path / f"without-{layer}", windows(models), other).perplexity
    assert lost[chosen[0]] == min(lost.values()) or lost[chosen[0]] < 1.5 * min(lost.values())


@pytest.mark.parametrize("scheme", ["gptq-w4a16", "awq-w4a16", "nvfp4", "sparsegpt-2:4"])
def test_delegated_schemes_are_made_checked_and_recorded(models: Path, tmp_path: Path, scheme: str) -> None:
    source = read_checkpoint(models / "trained")
    other = compressor(Path(PYTHON), scheme)
    delegation = Delegation(DELEGATED[scheme], models / "ids.jsonl", 512, LENGTH, ())
    assert f"--scheme {scheme}" in command_line(delegation, source, tmp_path / "out", other).replace("'", "")
    found = delegate(delegation, source, tmp_path / "out", other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    record = json.loads((tmp_path / "out" / REPORT).read_text())
    assert (record["quality"], record["recipe"]) == ("unmeasured", None)
    assert "llmcompressor" in record["tools"]
    if scheme.startswith("sparsegpt"):
        weight = read_floats(*_held(found, "model.layers.1.mlp.up_proj.weight")).reshape(-1, 4)
        assert ((weight == 0).sum(1) >= 2).all()
        assert "sparsity_config" not in json.dumps(found.config)
    else:
        assert found.config["quantization_config"]["quant_method"] == "compressed-tensors"


def _held(found: Any, name: str) -> tuple[Any, str]:
    return found.shards[found.tensors[name][0]], name


def test_the_reference_python_tells_its_versions() -> None:
    assert find_interpreter(Path(PYTHON), ("torch", "peft")[:1], "this").versions["torch"]
