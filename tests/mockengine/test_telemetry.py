"""The metrics page has the names each engine gives them, and says nothing that engine would not."""

from __future__ import annotations

import pytest

from gridctl.mockengine.pace import Gauges
from gridctl.mockengine.telemetry import Counters, metrics

GAUGES = Gauges(running=3, waiting=2, kv_used_tokens=250, kv_capacity_tokens=1000, prefix_queries=400, prefix_hits=100)
COUNTERS = Counters(requests=9, finished_stop=4, prompt_tokens=77, output_tokens=55, aborted=1)


def page(dialect: str, model: str = "m") -> dict[str, float]:
    lines = metrics(dialect, model, GAUGES, COUNTERS).decode().splitlines()  # type: ignore[arg-type]
    found = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]] = float(value)
    return found


@pytest.mark.parametrize(
    ("dialect", "running", "waiting", "usage", "prompt"),
    [
        ("vllm", "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
         "vllm:prompt_tokens_total"),
        ("sglang", "sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage",
         "sglang:prompt_tokens_total"),
        ("llamacpp", "llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:kv_cache_usage_ratio",
         "llamacpp:prompt_tokens_total"),
    ],
)  # fmt: skip
def test_every_engine_has_its_names(dialect: str, running: str, waiting: str, usage: str, prompt: str) -> None:
    said = page(dialect)
    assert (said[running], said[waiting], said[usage], said[prompt]) == (3, 2, 0.25, 77)


def test_tgi_says_nothing_of_memory() -> None:
    said = page("tgi")
    assert (said["tgi_batch_current_size"], said["tgi_queue_size"]) == (3, 2)
    assert not [name for name in said if "kv" in name or "token" in name]


def test_prefix_hits_are_tokens_at_vllm_and_a_share_at_sglang() -> None:
    assert (page("vllm")["vllm:prefix_cache_hits_total"], page("vllm")["vllm:prefix_cache_queries_total"]) == (100, 400)
    assert page("sglang")["sglang:cache_hit_rate"] == 0.25


def test_a_name_with_quotes_is_escaped_and_a_type_is_said_once() -> None:
    text = metrics("vllm", 'a"b\\c', GAUGES, COUNTERS).decode()
    assert 'model_name="a\\"b\\\\c"' in text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert text.endswith("\n")
    assert metrics("none", "m", GAUGES, COUNTERS) == b""
