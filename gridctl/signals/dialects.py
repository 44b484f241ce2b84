"""Dialects: under which names engines report their load, and how a number is made of the samples of one name.

One table for all engines: their prefixes differ, so a report needs no announcement of who wrote it. Names are looked up
whole; counters are known with and without `_total`, as libraries that write them append it or not.

Samples of one name that differ in labels are parts of one engine: data-parallel ranks and token sources add up; ranks
of one tensor- or pipeline-parallel group report the same requests, so of those the largest counts once.

Sources: the engines' documentation of their metrics (vLLM, SGLang, TGI, llama.cpp, TensorRT-LLM, Triton, NIM), 2026.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Field = Literal[
    "running",
    "waiting",
    "kv_share",
    "kv_used_tokens",
    "kv_capacity_tokens",
    "kv_blocks",
    "kv_block_tokens",
    "prefix_hits",
    "prefix_lookups",
    "prefix_share",
    "prompt_tokens",
    "output_tokens",
]
Kind = Literal["requests", "share", "tokens", "counter"]
Combined = Literal["sum", "mean", "max"]

KINDS: dict[Field, Kind] = {
    "running": "requests",
    "waiting": "requests",
    "kv_share": "share",
    "kv_used_tokens": "tokens",
    "kv_capacity_tokens": "tokens",
    "kv_blocks": "tokens",
    "kv_block_tokens": "tokens",
    "prefix_hits": "counter",
    "prefix_lookups": "counter",
    "prefix_share": "share",
    "prompt_tokens": "counter",
    "output_tokens": "counter",
}
HIGHEST: dict[Kind, float] = {"requests": 1e6, "share": 1.0, "tokens": 1e12, "counter": 2.0**53}
"""More than that is no report of an engine: a lie, or another unit."""

COPYING_RANKS = (b"tp_rank", b"pp_rank", b"moe_ep_rank", b"attn_tp_rank", b"pid")
"""Labels of ranks, or of processes, that report the same requests once more."""

CONFIG = b"vllm:cache_config_info"
CONFIG_TOKENS, CONFIG_BLOCKS, CONFIG_BLOCK_TOKENS = b"kv_cache_size_tokens", b"num_gpu_blocks", b"block_size"
"""vLLM says how large its KV cache is in the labels of a sample."""


class Source(NamedTuple):
    """What a sample is about: the engine's dialect, the field, and how samples of its name are put together.

    `label` is the pair that a sample must have where one name holds several things. Of names for one field the one
    with the lowest `rank` counts, so that a deprecated spelling is read only where the new one is absent.
    """

    dialect: str
    field: Field
    combined: Combined = "sum"
    rank: int = 0
    label: bytes = b""


def _counter(name: str) -> tuple[str, str]:
    return name, f"{name}_total"


def _table() -> dict[bytes, tuple[Source, ...]]:
    found: dict[bytes, list[Source]] = {}

    def add(dialect: str, field: Field, *names: str, combined: Combined = "sum", label: str = "") -> None:
        for rank, name in enumerate(names):
            found.setdefault(name.encode(), []).append(Source(dialect, field, combined, rank, label.encode()))

    add("vllm", "running", "vllm:num_requests_running")
    add("vllm", "waiting", "vllm:num_requests_waiting")
    add("vllm", "kv_share", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", combined="mean")
    add("vllm", "prefix_hits", *_counter("vllm:prefix_cache_hits"), *_counter("vllm:gpu_prefix_cache_hits"))
    add("vllm", "prefix_lookups", *_counter("vllm:prefix_cache_queries"), *_counter("vllm:gpu_prefix_cache_queries"))
    add("vllm", "prompt_tokens", *_counter("vllm:prompt_tokens"))
    add("vllm", "output_tokens", *_counter("vllm:generation_tokens"))

    add("sglang", "running", "sglang:num_running_reqs")
    add("sglang", "waiting", "sglang:num_queue_reqs")
    add("sglang", "kv_share", "sglang:token_usage", combined="mean")
    add("sglang", "kv_used_tokens", "sglang:num_used_tokens")
    add("sglang", "kv_capacity_tokens", "sglang:max_total_num_tokens")
    add("sglang", "prefix_hits", *_counter("sglang:cached_tokens"))
    add("sglang", "prefix_lookups", *_counter("sglang:prompt_tokens"))
    add("sglang", "prefix_share", "sglang:cache_hit_rate", combined="mean")
    add("sglang", "prompt_tokens", *_counter("sglang:prompt_tokens"))
    add("sglang", "output_tokens", *_counter("sglang:generation_tokens"))

    add("tgi", "running", "tgi_batch_current_size")
    add("tgi", "waiting", "tgi_queue_size")
    add("tgi", "prompt_tokens", "tgi_request_input_length_sum")
    add("tgi", "output_tokens", "tgi_request_generated_tokens_sum")

    add("llamacpp", "running", "llamacpp:requests_processing")
    add("llamacpp", "waiting", "llamacpp:requests_deferred")
    add("llamacpp", "kv_share", "llamacpp:kv_cache_usage_ratio", combined="mean")
    add("llamacpp", "kv_used_tokens", "llamacpp:kv_cache_tokens")
    add("llamacpp", "prompt_tokens", *_counter("llamacpp:prompt_tokens"))
    add("llamacpp", "output_tokens", *_counter("llamacpp:tokens_predicted"))

    add("trtllm", "running", "trtllm_num_requests_running")
    add("trtllm", "waiting", "trtllm_num_requests_waiting")
    add("trtllm", "kv_share", "trtllm_kv_cache_utilization", combined="mean")
    add("trtllm", "kv_blocks", "trtllm_kv_cache_max_blocks")
    add("trtllm", "kv_block_tokens", "trtllm_kv_cache_tokens_per_block", combined="max")
    add("trtllm", "prefix_share", "trtllm_kv_cache_hit_rate", combined="mean")

    requests, blocks = "nv_trt_llm_request_metrics", "nv_trt_llm_kv_cache_block_metrics"
    add("triton", "running", requests, label='request_type="scheduled"')
    add("triton", "waiting", requests, label='request_type="waiting"')
    add("triton", "kv_share", blocks, combined="mean", label='kv_cache_block_type="fraction"')
    add("triton", "kv_blocks", blocks, label='kv_cache_block_type="max"')
    add("triton", "kv_block_tokens", blocks, combined="max", label='kv_cache_block_type="tokens_per"')

    add("nim", "running", "num_requests_running")
    add("nim", "waiting", "num_requests_waiting")
    add("nim", "kv_share", "gpu_cache_usage_perc", "kv_cache_usage_perc", combined="mean")
    add("nim", "prompt_tokens", *_counter("prompt_tokens"))
    add("nim", "output_tokens", *_counter("generation_tokens"))
    return {name: tuple(sources) for name, sources in found.items()}


SOURCES = _table()
"""What each name of a sample tells."""
PATHS = ("/metrics", "/v1/metrics")
"""Where a report may be, in the order tried; NIM has the second."""
