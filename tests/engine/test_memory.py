"""Weights, working memory and KV blocks, worked out by hand for Llama-3.1-8B."""

from __future__ import annotations

import msgspec
import pytest
from handmade import BF16, LLAMA_8B, deployment

from gridctl.engine.memory import plan_memory
from gridctl.resources import BUILTIN_GPUS, Variant

RTX_PRO_6000 = BUILTIN_GPUS["rtx-pro-6000"].spec


def test_kv_blocks_of_llama_8b_in_bf16_on_95_6_gib() -> None:
    """0.9 · 95.6 GiB = 92,384,746,536 bytes; weights 2 · 8,029,995,008; working 2 GiB + 2048 · 4096 · 2 · 8.
    74,043,055,144 bytes are left, a block of 16 tokens takes 2,097,152: 35,306 blocks and a rest."""
    plan = plan_memory(LLAMA_8B, BF16, RTX_PRO_6000, deployment())
    assert plan.usable_bytes == 92_384_746_536
    assert plan.weight_bytes == 16_059_990_016
    assert plan.working_bytes == 2_147_483_648 + 134_217_728
    assert plan.kv_bytes_per_token == 131_072
    assert plan.kv_blocks == 35_306
    assert plan.arithmetic == "86.0 GiB usable − 15.0 weights − 2.1 working = 69.0 GiB for KV cache"


def test_an_fp8_cache_holds_twice_the_blocks() -> None:
    plan = plan_memory(LLAMA_8B, BF16, RTX_PRO_6000, deployment(kv_cache_dtype="fp8"))
    assert plan.kv_bytes_per_token == 65_536
    assert plan.kv_blocks == 70_612


def test_larger_blocks_are_fewer() -> None:
    assert plan_memory(LLAMA_8B, BF16, RTX_PRO_6000, deployment(block_size=32)).kv_blocks == 17_653


def test_two_gpus_share_the_weights_and_each_need_a_workspace() -> None:
    """2 · 92,384,746,536 − 16,059,990,016 − 4 GiB − 128 MiB = 164,280,318,032 bytes: 78,334 blocks."""
    plan = plan_memory(LLAMA_8B, BF16, RTX_PRO_6000, deployment(tensor_parallel=2))
    assert plan.working_bytes == 2 * 2_147_483_648 + 134_217_728
    assert plan.kv_blocks == 78_334


def test_more_gpus_than_kv_heads_replicate_the_heads() -> None:
    """Eight KV heads on sixteen GPUs are held twice: 16 · 92,384,746,536 − 16,059,990,016 − 32 GiB − 128 MiB over
    4,194,304 bytes a block."""
    plan = plan_memory(LLAMA_8B, BF16, RTX_PRO_6000, deployment(tensor_parallel=16))
    assert plan.kv_blocks == (16 * 92_384_746_536 - 16_059_990_016 - 32 * 2**30 - 2**27) // 4_194_304


def test_quantised_weights_keep_embeddings_in_bf16() -> None:
    """6,979,321,856 · 4.125 / 8 = 3,598,712,832 bytes and 2 · 2 · 525,336,576 of vocabulary."""
    plan = plan_memory(LLAMA_8B, Variant(name="awq", dtype="w4a16"), RTX_PRO_6000, deployment())
    assert plan.weight_bytes == 3_598_712_832 + 2_101_346_304


@pytest.mark.parametrize("memory_gib", [1.0, 16.0, 20.0])
def test_what_does_not_fit_has_no_blocks_rather_than_negative_ones(memory_gib: float) -> None:
    """Weights and working memory are 17.1 GiB; 0.9 · 20 GiB is above, 16 and 1 below."""
    plan = plan_memory(LLAMA_8B, BF16, msgspec.structs.replace(RTX_PRO_6000, memory_gib=memory_gib), deployment())
    assert (plan.kv_blocks > 0) == (memory_gib == 20.0)
    assert plan.kv_blocks >= 0
