"""What fits on a GPU: weights, working memory and KV blocks. Plain integers, no arrays, so `apply` can ask too.

Source: vLLM's engine arguments document `gpu_memory_utilization` as the share of each GPU's memory an engine may use;
what weights and activations leave of it becomes KV blocks of `block_size` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridctl.resources import Deployment, GpuSpec, ModelSpec, Variant
from gridctl.units import GIB

WORKSPACE_BYTES = 2 * GIB
"""Per GPU: CUDA context, graphs and buffers. An allowance, of the size vLLM's start-up profiling usually reports."""

ACTIVATION_BYTES_PER_ELEMENT = 2
ACTIVATION_BUFFERS = 8
"""Hidden-size buffers alive at the peak of a prefill step, counted from a Llama block."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes over all GPUs of one engine. `kv_blocks` is 0 when the variant does not fit."""

    usable_bytes: int
    weight_bytes: int
    working_bytes: int
    kv_bytes_per_token: int
    kv_blocks: int

    @property
    def arithmetic(self) -> str:
        """The sum in GiB, for error messages."""
        left = self.usable_bytes - self.weight_bytes - self.working_bytes
        return (
            f"{self.usable_bytes / GIB:.1f} GiB usable − {self.weight_bytes / GIB:.1f} weights"
            f" − {self.working_bytes / GIB:.1f} working = {left / GIB:.1f} GiB for KV cache"
        )


def plan_memory(model: ModelSpec, variant: Variant, gpu: GpuSpec, deployment: Deployment) -> MemoryPlan:
    """How one engine of `deployment` divides its GPUs' memory."""
    limits = deployment.engine
    parallel, ranks = deployment.tensor_parallel, deployment.data_parallel
    usable = int(gpu.memory_gib * GIB * limits.gpu_memory_utilization) * parallel * ranks
    # Every data-parallel rank holds all weights but the experts, which the ranks share out.
    experts = model.expert_bytes(variant)
    weights = ranks * (model.weight_bytes(variant) - experts) + experts
    activations = (
        limits.max_num_batched_tokens
        * model.architecture.hidden_size
        * ACTIVATION_BYTES_PER_ELEMENT
        * ACTIVATION_BUFFERS
    )
    working = (WORKSPACE_BYTES * parallel + activations) * ranks
    element_bytes = 1 if limits.kv_cache_dtype == "fp8" else 2
    per_token = model.architecture.kv_bytes_per_token(element_bytes)
    # With more GPUs than KV heads the heads are replicated, as vLLM does.
    replicas = max(1, parallel // model.architecture.kv_heads)
    blocks = (usable - weights - working) // (per_token * replicas * limits.block_size)
    return MemoryPlan(usable, weights, working, per_token, max(0, blocks))
