"""profile and apply on bad input: exit code, empty stdout, and words that say what, where and how to mend it."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "profiling"))

from operators import LinearLaw, measured_folder, tables_of, written
from toys import DENSE, HEAD, TOY_GPU, TOY_MODEL

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
LLAMA = "rtx-pro-6000.llama-3.1-8b.bf16.tp1"
RUN = "request,input_tokens,output_tokens,queued_s,scheduled_s,first_token_s,last_token_s"


def assert_refused(ran: object, code: int, *words: str) -> str:
    """The message, once the exit code is right, stdout is empty and the message has its three parts."""
    assert (ran.code, ran.out) == (code, ""), ran.err
    lines = [line.strip() for line in ran.err.splitlines()]
    assert lines[0].startswith("error: ")
    assert any(line.startswith("where: ") for line in lines)
    assert any(line.startswith("fix: ") for line in lines)
    assert "Traceback" not in ran.err
    assert "bug" not in ran.err
    for word in words:
        assert word in ran.err, ran.err
    return ran.err


@pytest.fixture
def fit(shell: Callable) -> Callable:
    """`profile fit` of a made-up engine from three sound tables in the folder."""
    (shell.folder / "gpu.yaml").write_text(TOY_GPU, encoding="utf-8")
    (shell.folder / "model.yaml").write_text(TOY_MODEL, encoding="utf-8")
    written(tables_of(LinearLaw(), DENSE, HEAD), shell.folder)

    def run(*more: str) -> object:
        return shell("profile", "fit", "--gpu", "gpu.yaml", "--model", "model.yaml", "--tables", "op", *more)

    return run


def dropping(*starts: str) -> Callable[[str], str]:
    return lambda text: "".join(line for line in text.splitlines(keepends=True) if not line.startswith(starts))


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def scaling(factor: float) -> Callable[[str], str]:
    def scale(text: str) -> str:
        header, *rows = text.splitlines()
        cells = [row.rpartition(",") for row in rows]
        return "\n".join([header, *(f"{left},{float(time) * factor!r}" for left, _, time in cells)]) + "\n"

    return scale


BAD_TABLES = {
    "a layer lacks a count": ("dense", dropping("o_proj,64,"), "has a hole: qkv_proj was measured at 64, o_proj was"),
    "a layer is gone": ("dense", dropping("o_proj,"), "the dense table has no o_proj"),
    "no LM head": ("per_sequence", replacing("lm_head", "head"), "has a hole"),
    "few KV lengths": (
        "attention",
        dropping("0,0,8,1024,", "0,0,8,4096,", "0,0,8,16384,"),
        "8 decodes were measured at 2 KV lengths only",
    ),
    "no decodes alone": ("attention", dropping("0,0,"), "only 0 different numbers of decodes"),
    "a row twice": ("dense", lambda text: text + text.splitlines()[1] + "\n", "qkv_proj was measured twice at 1"),
    "a batch twice": ("attention", lambda text: text + text.splitlines()[1] + "\n", "the batch was measured twice"),
    "milliseconds": ("dense", scaling(0.001), "matrices of 2,048 tokens take"),
    "nanoseconds": ("dense", scaling(1000.0), "matrices of 2,048 tokens take"),
    "attention in milliseconds": ("attention", scaling(0.001), "128 decodes of 16,384 KV tokens take"),
    "attention in nanoseconds": ("attention", scaling(1000.0), "128 decodes of 16,384 KV tokens take"),
    "LM head in milliseconds": ("per_sequence", scaling(0.001), "the LM head of 1 sequences take"),
    "LM head in nanoseconds": ("per_sequence", scaling(1000.0), "the LM head of 1 sequences take"),
    "a negative time": ("dense", replacing("qkv_proj,4,31.2", "qkv_proj,4,-31.2"), "time_us is -31.2"),
    "not a number": ("dense", replacing("qkv_proj,4,31.2", "qkv_proj,4,NaN"), "time_us is 'NaN'"),
    "an empty cell": ("dense", replacing("qkv_proj,4,31.2", "qkv_proj,4,"), "time_us is empty"),
    "a decimal comma": ("dense", replacing("qkv_proj,4,31.2", "qkv_proj,4,31,2"), "more than the header's 3 cells"),
    "another header": ("dense", replacing("layer,tokens", "op,tokens"), "column layer is missing"),
    "an empty file": ("attention", lambda text: "", "the header has nothing"),
    "a header alone": ("dense", lambda text: text.splitlines()[0] + "\n", "the table has no rows"),
}


@pytest.mark.parametrize(("name", "change", "says"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables_are_refused(shell: Callable, fit: Callable, name: str, change: Callable, says: str) -> None:
    path = shell.folder / f"op_{name}.csv"
    text = path.read_text(encoding="utf-8")
    broken = change(text)
    assert broken != text
    path.write_text(broken, encoding="utf-8")
    assert f"op_{name}.csv" in assert_refused(fit(), 3, says)


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("csv.gz", gzip.compress(b"layer,tokens,time_us\n" * 500, mtime=0)[:-12]),
        ("csv.gz", b"layer,tokens,time_us\n"),
        ("csv", bytes(range(256)) * 10),
        ("csv", b"layer,tokens,time_us\n" + b"7" * 200_000),
    ],
    ids=["a truncated .gz", "no .gz at all", "bytes", "one endless cell"],
)
def test_files_that_are_no_tables_are_refused(shell: Callable, fit: Callable, suffix: str, data: bytes) -> None:
    (shell.folder / f"bad.{suffix}").write_bytes(data)
    assert_refused(fit("--dense", f"bad.{suffix}"), 3, f"where: bad.{suffix}")


def test_a_failed_fit_leaves_the_file_it_would_have_written_alone(shell: Callable, fit: Callable) -> None:
    (shell.folder / "old.yaml").write_text("old", encoding="utf-8")
    (shell.folder / "op_dense.csv").write_text("", encoding="utf-8")
    assert_refused(fit("--out", "old.yaml"), 3)
    assert (shell.folder / "old.yaml").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--gpu", "rtx-pro-600"), 4, "did you mean rtx-pro-6000?"),
        (("--gpu", "zzz"), 4, "one of a100-pcie"),
        (("--gpu", "none.yaml"), 3, "did you mean model.yaml?"),
        (("--gpu", "model.yaml"), 3, "the file declares 0 gpus, one was expected"),
        (("--model", "llama-3.1-8"), 4, "did you mean llama-3.1-8b?"),
        (("--model", "gpu.yaml"), 3, "the file declares 0 models, one was expected"),
        (("--model", "none/config.json"), 4, "does not exist"),
        (("--tables", "nowhere"), 4, "nowhere_attention.csv.gz"),
        (("--name", "Bad_Name"), 3, "'Bad_Name' cannot be a name"),
        (("--source", "s" * 1001), 3, "$.spec.source"),
        (("--data-parallel", "2"), 3, "data-parallel ranks of a dense model do not step together"),
        (("--max-num-batched-tokens", "64"), 3, "64 tokens a step are fewer than 128 sequences"),
    ],
)
def test_words_that_name_nothing_are_refused(fit: Callable, words: tuple[str, ...], code: int, says: str) -> None:
    assert_refused(fit(*words), code, says)


@pytest.mark.parametrize(
    ("tables", "model", "says"),
    [
        ("Qwen3-30B-A3B-Instruct-2507", "llama-3.1-8b", "has no gate_up_proj, which every layer of this model runs"),
        ("Qwen3-30B-A3B-Instruct-2507", "qwen3-32b", "has no gate_up_proj, which every layer of this model runs"),
        ("Llama-3.1-8B", "qwen3-30b-a3b", "has gate_up_proj, but this model's MLPs are experts"),
        ("Llama-3.1-8B", "qwen3-32b", "matrices of 2,048 tokens take 144,"),
    ],
)
def test_tables_of_another_model_are_refused(shell: Callable, tables: str, model: str, says: str) -> None:
    prefix = measured_folder() / f"op_rtxpro6000_{tables}_tp1"
    ran = shell("profile", "fit", "--gpu", "rtx-pro-6000", "--model", model, "--tables", str(prefix))
    assert_refused(ran, 3, says)


CONFIG = {
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 100
}  # fmt: skip


@pytest.mark.parametrize("lacking", CONFIG)
def test_a_config_json_that_lacks_a_number_is_refused(shell: Callable, lacking: str) -> None:
    config = {name: number for name, number in CONFIG.items() if name != lacking}
    (shell.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert_refused(shell("profile", "roofline", "--gpu", "l4", "--model", "config.json"), 3, f"{lacking} is missing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ("", "not JSON"),
        (json.dumps(CONFIG | {"hidden_size": 0}), "hidden_size"),
        (json.dumps(CONFIG | {"vocab_size": "many"}), "vocab_size is missing"),
        (json.dumps(CONFIG | {"num_hidden_layers": True}), "num_hidden_layers is missing"),
        (json.dumps(CONFIG | {"num_hidden_layers": 10**9}), "layers"),
    ],
    ids=["open", "list", "deep", "empty", "zero", "text", "true", "huge"],
)
def test_a_config_json_that_is_none_is_refused(shell: Callable, text: str, says: str) -> None:
    (shell.folder / "config.json").write_text(text, encoding="utf-8")
    assert_refused(shell("profile", "roofline", "--gpu", "l4", "--model", "config.json"), 3, says)


@pytest.fixture
def validate(shell: Callable) -> Callable:
    """`profile validate` of the shipped Llama profile with the rows of a run."""

    def run(text: str, *more: str) -> object:
        (shell.folder / "run.csv").write_text(text, encoding="utf-8")
        words = ("--profile", LLAMA, "--measured", "run.csv")
        return shell("profile", "validate", *words, *more, XDG_CACHE_HOME=KERNELS)

    return run


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("", (), "the header has nothing"),
        (RUN.replace("queued_s,", "") + "\n", (), "column queued_s is missing"),
        (RUN + "\n", (), "the run has no requests"),
        (f"{RUN}\n0,10,5,0,0,-1,2\n", (), "times run backwards"),
        (f"{RUN}\n0,10,5,0,0,nan,2\n", (), "first_token_s is 'nan'"),
        (f"{RUN}\n0,10,1,0,0,1,1\n", (), "no request has a TPOT"),
        (f"{RUN}\n0,2000,5,0,0,1,2\n", ("--kv-blocks", "100"), "does not fit the engine's 100 KV blocks"),
        (f"{RUN}\n0,10,5,0,0,1,2\n", ("--gpu-memory-utilization", "0.1"), "does not fit 1 × rtx-pro-6000: 9.6 GiB"),
        (f"{RUN}\n0,10,5,0,0,1,2\n", ("--max-num-seqs", "4096"), "fewer than 4096 sequences"),
        (f"{RUN}\n0,10,5,0,0,1,2\n", ("--profile", LLAMA[:-1]), "did you mean"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    validate: Callable, text: str, more: tuple[str, ...], says: str
) -> None:
    assert_refused(validate(text, *more), 4 if "--profile" in more else 3, says)


def test_validating_outside_the_measured_range_is_warned_of(validate: Callable) -> None:
    limits = ("--max-num-seqs", "300", "--max-num-batched-tokens", "4096")
    ran = validate(f"{RUN}\n0,20000,5,0,0,1,2\n", *limits)
    assert ran.code == 0
    for says in (
        "warning: 4,096 tokens of a step, the profile covers 2,048: extrapolated",
        "warning: 300 sequences, the profile covers 256: extrapolated",
        "warning: 20,005 tokens of the longest request, the profile covers 16,384: extrapolated",
    ):
        assert says in ran.err


CLUSTER = """\
apiVersion: gridctl/v1
kind: Model
metadata: {{name: {model}}}
spec:
  architecture: {architecture}
  variants: [{{name: {dtype}, dtype: {dtype}, quality: 0.7}}]
---
apiVersion: gridctl/v1
kind: Cluster
metadata: {{name: c}}
spec: {{site: no-oslo-01, gpu: {gpu}, gpus: 8, deployments: [{{variant: {model}/{dtype}, {deployment}}}]}}
"""
LLAMA_8B = (
    "{layers: 32, hidden_size: 4096, heads: 32, kv_heads: 8, head_dim: 128, intermediate_size: 14336,"
    " vocab_size: 128256}"
)
MIXTURE = (
    "{layers: 48, hidden_size: 2048, heads: 32, kv_heads: 4, head_dim: 128, intermediate_size: 768,"
    " vocab_size: 151936, experts: 128, experts_per_token: 8}"
)


def manifest(
    deployment: str, architecture: str = LLAMA_8B, gpu: str = "rtx-pro-6000", dtype: str = "bf16", model: str = "big"
) -> str:
    return CLUSTER.format(model=model, architecture=architecture, gpu=gpu, dtype=dtype, deployment=deployment)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (manifest(f"profile: {LLAMA}", gpu="l40s"), "its gpu is rtx-pro-6000, the deployment's l40s"),
        (manifest(f"profile: {LLAMA}", MIXTURE), "it is of another model: layers is 32, that of big 48"),
        (manifest(f"profile: {LLAMA}, tensor_parallel: 2"), "its tensor_parallel is 1, the deployment's 2"),
        (manifest(f"profile: {LLAMA}", dtype="fp8"), "its dtype is bf16, the deployment's fp8"),
        (
            manifest(f"profile: {LLAMA}, engine: {{kv_cache_dtype: fp8}}"),
            "its kv_cache_dtype is auto, the deployment's fp8",
        ),
        (manifest("profile: rtx-pro-6000.llama-3.1-8b"), "profile rtx-pro-6000.llama-3.1-8b does not exist"),
        (manifest("data_parallel: 2"), "data_parallel is 2, but big has no experts to share"),
        (
            # Experts 54.0 GiB once, the rest 2.84 GiB on each of two L4s of 24 GiB: 43.2 GiB may be used.
            manifest("data_parallel: 2", MIXTURE, gpu="l4"),
            "does not fit 2 × l4: 43.2 GiB usable − 59.7 weights",
        ),
    ],
)
def test_a_deployment_its_profile_or_its_gpus_cannot_serve_is_refused_at_apply(
    grid: Callable, text: str, reason: str
) -> None:
    assert_refused(grid("apply", "-f", "-", stdin=text), 3, reason, "<stdin>:")


def test_a_declared_profile_whose_knots_fall_is_refused_at_its_line(grid: Callable) -> None:
    good = grid("profile", "roofline", "--gpu", "l4", "--model", "llama-3.2-1b", "--name", "p").out
    line = next(number for number, text in enumerate(good.splitlines(), 1) if text.startswith("  dense:"))
    bad = "\n".join("  dense: [[1, 5.0], [64, 4.0]]" if row.startswith("  dense:") else row for row in good.split("\n"))
    assert_refused(
        grid("apply", "-f", "-", stdin=bad), 3, "the curve falls or repeats a count: [1, 5.0], then [64, 4.0]"
    )
    assert f"<stdin>:{line}:" in assert_refused(grid("apply", "-f", "-", stdin=bad), 3)


@pytest.mark.parametrize(
    ("knots", "says"),
    [
        ("[[1, -5.0]]", "spec.dense[0][1] is -5.0; it must be 0 to"),
        ("[[1, .nan]]", "spec.dense[0][1] is NaN; it must be 0 to"),
        ("[[1.5, 3.0]]", "spec.dense[0][0] is 1.5, not a whole number"),
        ('[[1, "3 ms"]]', 'spec.dense[0][1] is the text "3 ms", not a number'),
        ("[[1, 2.0, 3.0]]", "spec.dense[0] has 3 entries, not 2"),
        ("[1, 2]", "spec.dense[0] is 1, not a list"),
        ("[]", "spec.dense is an empty list"),
        ("7", "spec.dense is 7, not a list"),
    ],
)
def test_knots_that_are_no_points_are_refused_where_they_are(grid: Callable, knots: str, says: str) -> None:
    good = grid("profile", "roofline", "--gpu", "l4", "--model", "llama-3.2-1b", "--name", "p").out
    bad = "\n".join(f"  dense: {knots}" if row.startswith("  dense:") else row for row in good.split("\n"))
    ran = grid("apply", "-f", "-", stdin=bad)
    assert (ran.code, ran.out) == (3, "")
    assert says in ran.err
    line = next(number for number, text in enumerate(bad.splitlines(), 1) if text.startswith("  dense:"))
    assert f"<stdin>:{line}:" in ran.err


def test_a_profile_used_outside_its_range_is_applied_and_the_run_says_so(grid: Callable) -> None:
    text = manifest("engine: {max_num_seqs: 512, max_num_batched_tokens: 8192}", model="large")
    workload = (
        "---\napiVersion: gridctl/v1\nkind: Workload\nmetadata: {name: long}\n"
        "spec: {models: [large], objectives: [{metric: ttft_ms, threshold_ms: 5000}]}\n"
    )
    assert grid("apply", "-f", "-", stdin=text + workload).code == 0
    request = {"timestamp": 0, "input_length": 20_000, "output_length": 3, "origin": "no-oslo-01", "workload": "long"}
    (grid.folder / "t.jsonl").write_text(json.dumps(request) + "\n", encoding="utf-8")
    ran = grid("replay", "run", "t.jsonl", "--name", "r", "--no-centralized", XDG_CACHE_HOME=KERNELS)
    assert ran.code == 0, ran.err
    notes = json.loads(grid("run", "get", "r", "-o", "json").out)["notes"]
    for says in (
        f"large/bf16 on 1 rtx-pro-6000: steps of 8,192 tokens, profile {LLAMA} covers 2,048",
        f"large/bf16 on 1 rtx-pro-6000: steps of 512 sequences, profile {LLAMA} covers 256",
        f"requests of up to 20,003 tokens, profile {LLAMA} covers 16,384",
    ):
        expected = f"outside the measured range, extrapolated: {says}"
        assert expected in ran.err
        assert expected in notes
    assert any(note.startswith("step times from rooflines, not measured: tiny/bf16 on 1 l40s") for note in notes)
