"""profile: the common verbs over shipped and declared profiles; fit, roofline and validate end to end."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "profiling"))

from operators import LinearLaw, measured_folder, tables_of, written
from toys import DENSE, HEAD, TOY_GPU, TOY_MODEL

from gridctl.cli.help_topics import TOPICS
from gridctl.manifest import read_manifests
from gridctl.manifest.shipped import shipped_profiles

LLAMA = "rtx-pro-6000.llama-3.1-8b.bf16.tp1"
MIXTURE = "rtx-pro-6000.qwen3-30b-a3b.bf16.tp1.dp2"
MEASURED = {
    LLAMA: "measured_vllm_RTXPRO6000_Llama-3.1-8B.csv.gz",
    MIXTURE: "measured_vllm_RTXPRO6000_Qwen3-30B-A3B-Instruct-2507.csv.gz",
}
KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
"""Compiled kernels are the machine's: compiling them again proves nothing."""
TABLES = {"llama-3.1-8b": "Llama-3.1-8B", "qwen3-30b-a3b": "Qwen3-30B-A3B-Instruct-2507"}


@pytest.fixture
def toy(shell: Callable) -> Callable:
    """`profile fit` of a made-up engine, in a folder with its tables."""
    (shell.folder / "gpu.yaml").write_text(TOY_GPU, encoding="utf-8")
    (shell.folder / "model.yaml").write_text(TOY_MODEL, encoding="utf-8")
    written(tables_of(LinearLaw(), DENSE, HEAD), shell.folder)

    def fit(*more: str) -> object:
        return shell("profile", "fit", "--gpu", "gpu.yaml", "--model", "model.yaml", "--tables", "op", *more)

    return fit


def test_shipped_profiles_are_listed_in_a_grid_that_declares_none(grid: Callable) -> None:
    assert grid("profile", "list", "-o", "name").out.split() == list(shipped_profiles())


def test_shipped_and_declared_profiles_stand_side_by_side(grid: Callable, toy: Callable) -> None:
    assert toy("--name", "mine", "--out", "mine.yaml").code == 0
    assert grid("apply", "-f", "mine.yaml").code == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(grid("profile", "list", "-o", "csv").out))}
    assert list(rows) == sorted([*shipped_profiles(), "mine"])
    assert rows["mine"]["version"] != ""


@pytest.mark.parametrize("output", ["table", "wide", "json", "jsonl", "yaml", "csv", "markdown", "name"])
def test_every_format_shows_profiles(grid: Callable, output: str) -> None:
    for verb in (("list",), ("get", MIXTURE, LLAMA)):
        ran = grid("profile", *verb, "-o", output)
        assert (ran.code, ran.err) == (0, "")
        assert LLAMA in ran.out
        assert MIXTURE in ran.out


def test_what_get_prints_applies_again_and_is_the_same_profile(grid: Callable) -> None:
    for output in ("yaml", "json"):
        shown = grid("profile", "get", LLAMA, "-o", output).out
        assert grid("apply", "-f", "-", stdin=shown).code == 0
        assert grid("profile", "get", LLAMA, "-o", output).out == shown
    assert grid("profile", "delete", LLAMA).code == 0
    assert grid("profile", "get", LLAMA, "-o", "json").out == shown


def test_a_profile_written_applied_and_exported_is_the_same_bytes(grid: Callable, toy: Callable) -> None:
    assert toy("--out", "p.yaml").code == 0
    text = (grid.folder / "p.yaml").read_text(encoding="utf-8")
    assert grid("apply", "-f", "p.yaml").code == 0
    assert grid("profile", "export").out == text
    assert grid("apply", "-f", "-", stdin=grid("profile", "export", "-o", "jsonl").out).out.count("unchanged") == 1
    assert grid("profile", "export").out == text


def test_a_shipped_profile_cannot_be_deleted(grid: Callable) -> None:
    for more in ((), ("--dry-run",)):
        ran = grid("profile", "delete", LLAMA, *more)
        assert (ran.code, ran.out) == (3, "")
        assert "is built in" in ran.err


def test_a_profile_in_use_is_not_deleted(grid: Callable, toy: Callable) -> None:
    toy("--name", "mine", "--out", "mine.yaml")
    cluster = (
        "apiVersion: gridctl/v1\nkind: Cluster\nmetadata: {name: c}\n"
        "spec: {site: no-oslo-01, gpu: toy, gpus: 1, deployments: [{variant: small/bf16, profile: mine}]}\n"
    )
    assert grid("apply", "-f", "mine.yaml", "-f", "gpu.yaml", "-f", "model.yaml").code == 0
    assert grid("apply", "-f", "-", stdin=cluster).code == 0
    ran = grid("profile", "delete", "mine")
    assert (ran.code, ran.out) == (3, "")
    assert "profile mine does not exist" in ran.err
    assert "cluster c, spec.deployments[0].profile" in ran.err
    assert grid("cluster", "delete", "c").code == 0
    assert grid("profile", "delete", "mine").code == 0


def test_every_field_of_a_profile_is_explained(shell: Callable) -> None:
    fields = shell("profile", "explain", "-o", "csv").out
    for name in ("spec.gpu", "spec.dense", "spec.decode", "spec.cross_ns", "spec.chunk", "spec.valid.kv_tokens"):
        assert f"\n{name}," in fields
    assert shell("profile", "explain", "decode").code == 0


@pytest.mark.parametrize("verb", ["fit", "roofline", "validate", "list", "get", "delete", "export", "explain"])
def test_every_verb_has_help_with_an_example(shell: Callable, verb: str) -> None:
    ran = shell("profile", verb, "--help")
    assert ran.code == 0
    assert f"gridctl profile {verb}" in ran.out.partition("Example:")[2]


def test_names_of_gpus_models_and_profiles_complete(grid: Callable, toy: Callable) -> None:
    def words(*line: str) -> list[str]:
        ran = grid("completion", "words", "--", "profile", *line)
        assert (ran.code, ran.err) == (0, "")
        return [row.split("\t")[0] for row in ran.out.splitlines()]

    assert words("fit", "--gpu", "rtx-") == ["rtx-4090", "rtx-pro-6000"]
    assert words("roofline", "--model", "llama-3.2") == ["llama-3.2-1b", "llama-3.2-3b"]
    assert words("validate", "--profile", "rtx-pro-6000.q") == [name for name in shipped_profiles() if "qwen" in name]
    assert grid("apply", "-f", "-", stdin=toy().out).code == 0
    assert words("get", "t") == words("validate", "--profile", "t") == ["toy.small.bf16.tp1"]


def test_fit_prints_a_manifest_and_says_its_error(toy: Callable, shell: Callable) -> None:
    ran = toy()
    assert ran.code == 0
    assert ran.out.startswith("apiVersion: gridctl/v1\nkind: Profile\nmetadata:\n  name: toy.small.bf16.tp1\n")
    assert ran.err.startswith("profile toy.small.bf16.tp1: fit error p50/p95 dense 0/0 %, attention 0/0 %")
    to_file = toy("--out", "p.yaml")
    assert to_file.out == ""
    assert (shell.folder / "p.yaml").read_text(encoding="utf-8") == ran.out


def test_tables_may_be_named_one_by_one_and_packed(toy: Callable, shell: Callable) -> None:
    plain = toy("--source", "s")
    written(tables_of(LinearLaw(), DENSE, HEAD), shell.folder, "packed", packed=True)
    files = [("--attention", "attention"), ("--dense", "dense"), ("--per-sequence", "per_sequence")]
    words = [word for option, name in files for word in (option, f"packed_{name}.csv.gz")]
    ran = shell("profile", "fit", "--gpu", "gpu.yaml", "--model", "model.yaml", *words, "--source", "s")
    assert (ran.code, ran.out) == (0, plain.out)


def test_a_gpu_and_a_model_of_the_grid_go_before_built_in_ones(grid: Callable) -> None:
    """The test grid's l40s is the built-in one until a declared one of half the bandwidth stands for it."""
    words = ("profile", "roofline", "--gpu", "l40s", "--model", "tiny")
    before = grid(*words)
    assert "864 GB/s" in before.out
    slower = TOY_GPU.replace("toy", "l40s").replace("bandwidth_gbs: 1000", "bandwidth_gbs: 432")
    assert grid("apply", "-f", "-", stdin=slower).code == 0
    assert "432 GB/s" in grid(*words).out


@pytest.mark.parametrize(
    ("gpu", "model", "more"),
    [
        ("h100-sxm", "llama-3.1-70b", ("--dtype", "fp8", "--tensor-parallel", "2", "--kv-cache-dtype", "fp8")),
        ("h200-sxm", "qwen3-235b-a22b", ("--data-parallel", "4")),
        ("l4", "llama-3.2-1b", ("--dtype", "w4a16", "--max-num-seqs", "16", "--max-num-batched-tokens", "64")),
    ],
)
def test_a_roofline_of_anything_built_in_is_a_sound_profile(
    grid: Callable, gpu: str, model: str, more: tuple[str, ...]
) -> None:
    ran = grid("profile", "roofline", "--gpu", gpu, "--model", model, *more)
    assert (ran.code, ran.err) == (0, "")
    assert grid("apply", "-f", "-", stdin=ran.out).code == 0


def test_a_config_json_is_a_model(shell: Callable) -> None:
    """The numbers of Llama-3.1-8B under the names transformers gives them make the built-in model's roofline."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128_256,
    }
    folder = shell.folder / "Llama-3.1-8B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ("profile", "roofline", "--gpu", "l4", "--model")
    ran = shell(*words, "Llama-3.1-8B/config.json")
    assert (ran.code, ran.out) == (0, shell(*words, "llama-3.1-8b").out)


def test_a_config_json_of_a_mixture_counts_one_expert_s_width(shell: Callable) -> None:
    config = {
        "text_config": {
            "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4,
            "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
            "num_experts_per_tok": 8, "vocab_size": 151_936,
        }
    }  # fmt: skip
    (shell.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ("profile", "roofline", "--gpu", "h200-sxm", "--name", "p", "--model")
    assert shell(*words, "./config.json").out == shell(*words, "qwen3-30b-a3b").out


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_is_what_fit_makes_of_the_published_tables(shell: Callable, name: str) -> None:
    """Byte for byte: same tables, same words, same program."""
    shipped = shipped_profiles()[name]
    spec = shipped.spec
    model = next(word for word in TABLES if word in name)
    tables = measured_folder() / f"op_rtxpro6000_{TABLES[model]}_tp{spec.tensor_parallel}"
    engine = ("--tensor-parallel", str(spec.tensor_parallel), "--data-parallel", str(spec.data_parallel))
    words = ("--gpu", spec.gpu, "--model", model, "--tables", str(tables), *engine)
    ran = shell("profile", "fit", *words, "--source", spec.source, "--out", "p.yaml")
    assert ran.code == 0, ran.err
    (fitted,) = (one.resource for one in read_manifests([shell.folder / "p.yaml"]))
    assert fitted.name == name
    assert msgspec.json.encode(fitted) == msgspec.json.encode(shipped)


GOALS = {"TTFT": 10.0, "TPOT": 5.0, "E2E": 5.0}
"""Percent by which a mean may be off; a 99th percentile by 15."""


def errors_of(shell: Callable, profile: str, run: str) -> dict[str, dict[str, float]]:
    """What `profile validate` prints of a measured run, by metric."""
    words = ("--profile", profile, "--measured", str(measured_folder() / run), "-o", "json")
    ran = shell("profile", "validate", *words, XDG_CACHE_HOME=KERNELS)
    assert ran.code == 0, ran.err
    return {item["metric"]: item for item in json.loads(ran.out)["items"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_the_twin_meets_its_goals_on_measured_runs(shell: Callable, name: str) -> None:
    errors = errors_of(shell, name, MEASURED[name])
    assert set(errors) == set(GOALS)
    for metric, goal in GOALS.items():
        assert abs(errors[metric]["mean_error_pct"]) <= goal, metric
        assert abs(errors[metric]["p99_error_pct"]) <= 15.0, metric
        assert errors[metric]["requests"] == 300


def told_errors() -> dict[str, list[list[float]]]:
    """The rows of the accuracy topic's table: the last five numbers of each metric, by the profile's words."""
    table: dict[str, list[list[float]]] = {}
    words = ""
    for line in (TOPICS / "accuracy.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("−", "-") for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[1] in ("TTFT", "TPOT", "end to end"):
            words = cells[0] or words
            table.setdefault(words, []).append([float(cell) for cell in cells[3:]])
    return table


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_the_accuracy_topic_tells_what_the_commands_print(shell: Callable, name: str) -> None:
    spec = shipped_profiles()[name].spec
    model = next(word for word in TABLES if word in name)
    words = ("--gpu", spec.gpu, "--model", model, "--data-parallel", str(spec.data_parallel))
    assert shell("profile", "roofline", *words, "--out", "roofline.yaml").code == 0
    told = told_errors()
    title = TABLES[model].removesuffix("-Instruct-2507")
    for profile, rows in ((name, told[f"{title}, fitted"]), ("roofline.yaml", told[f"{title}, roofline"])):
        printed = errors_of(shell, profile, MEASURED[name])
        for metric, row in zip(GOALS, rows, strict=True):
            keys = ("mean_error_pct", "p50_error_pct", "p95_error_pct", "p99_error_pct", "mape_pct")
            assert row == pytest.approx([printed[metric][key] for key in keys], abs=0.051), (profile, metric)
