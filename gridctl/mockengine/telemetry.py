"""Telemetry: the metrics page of an engine, under the names that vLLM, SGLang, llama.cpp and TGI give them.

Counts only what each of them reports: TGI says nothing of KV memory, llama.cpp nothing of prefix hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridctl.mockengine.pace import Gauges

Dialect = Literal["vllm", "sglang", "llamacpp", "tgi", "none"]


@dataclass(slots=True)
class Counters:
    """What the engine has done since it started. Seconds are sums over requests."""

    requests: int = 0
    finished_stop: int = 0
    finished_length: int = 0
    aborted: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    first_tokens: int = 0
    first_token_s: float = 0.0


def metrics(dialect: Dialect, model: str, gauges: Gauges, counters: Counters) -> bytes:
    """The page; empty for an engine that has none."""
    lines: dict[str, None] = {}
    for name, kind, labels, value in _series(dialect, model, gauges, counters):
        lines[f"# TYPE {name} {kind}"] = None
        lines[f"{name}{labels} {float(value)!r}"] = None
    return "\n".join([*lines, ""]).encode()


Series = tuple[str, str, str, float]


def _series(dialect: Dialect, model: str, gauges: Gauges, counters: Counters) -> list[Series]:
    label = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")
    capacity = gauges.kv_capacity_tokens
    share = gauges.kv_used_tokens / capacity if capacity else 0.0
    if dialect == "vllm":
        return _vllm(f'{{engine="0",model_name="{label}"}}', share, gauges, counters)
    if dialect == "sglang":
        labels = f'{{engine_type="unified",model_name="{label}"}}'
        hits = gauges.prefix_hits / gauges.prefix_queries if gauges.prefix_queries else 0.0
        return [
            ("sglang:num_running_reqs", "gauge", labels, gauges.running),
            ("sglang:num_queue_reqs", "gauge", labels, gauges.waiting),
            ("sglang:num_used_tokens", "gauge", labels, gauges.kv_used_tokens),
            ("sglang:token_usage", "gauge", labels, share),
            ("sglang:cache_hit_rate", "gauge", labels, hits),
            ("sglang:max_total_num_tokens", "gauge", labels, capacity),
            ("sglang:prompt_tokens_total", "counter", labels, counters.prompt_tokens),
            ("sglang:generation_tokens_total", "counter", labels, counters.output_tokens),
            ("sglang:num_aborted_requests_total", "counter", labels, counters.aborted),
        ]
    if dialect == "llamacpp":
        return [
            ("llamacpp:requests_processing", "gauge", "", gauges.running),
            ("llamacpp:requests_deferred", "gauge", "", gauges.waiting),
            ("llamacpp:kv_cache_tokens", "gauge", "", gauges.kv_used_tokens),
            ("llamacpp:kv_cache_usage_ratio", "gauge", "", share),
            ("llamacpp:prompt_tokens_total", "counter", "", counters.prompt_tokens),
            ("llamacpp:tokens_predicted_total", "counter", "", counters.output_tokens),
        ]
    if dialect == "tgi":
        return [
            ("tgi_batch_current_size", "gauge", "", gauges.running),
            ("tgi_queue_size", "gauge", "", gauges.waiting),
            ("tgi_request_count", "counter", "", counters.requests),
            ("tgi_request_success", "counter", "", counters.finished_stop + counters.finished_length),
        ]
    return []


def _vllm(labels: str, share: float, gauges: Gauges, counters: Counters) -> list[Series]:
    finished = (("stop", counters.finished_stop), ("length", counters.finished_length), ("abort", counters.aborted))
    inside = labels[1:-1]
    return [
        ("vllm:num_requests_running", "gauge", labels, gauges.running),
        ("vllm:num_requests_waiting", "gauge", labels, gauges.waiting),
        ("vllm:kv_cache_usage_perc", "gauge", labels, share),
        ("vllm:prefix_cache_queries_total", "counter", labels, gauges.prefix_queries),
        ("vllm:prefix_cache_hits_total", "counter", labels, gauges.prefix_hits),
        ("vllm:num_preemptions_total", "counter", labels, gauges.preemptions),
        ("vllm:prompt_tokens_total", "counter", labels, counters.prompt_tokens),
        ("vllm:generation_tokens_total", "counter", labels, counters.output_tokens),
        *(
            ("vllm:request_success_total", "counter", f'{{{inside},finished_reason="{reason}"}}', count)
            for reason, count in finished
        ),
        (
            "vllm:cache_config_info",
            "gauge",
            f'{{engine="0",num_gpu_blocks="{gauges.kv_capacity_tokens // 16}",block_size="16"}}',
            1,
        ),
        ("vllm:time_to_first_token_seconds_sum", "counter", labels, counters.first_token_s),
        ("vllm:time_to_first_token_seconds_count", "counter", labels, counters.first_tokens),
    ]
