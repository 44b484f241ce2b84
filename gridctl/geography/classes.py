"""Classes: the nine workloads every example grid ships, with objectives from the published AI-grid use cases.

The promises (500 ms for a fraud decision and for voice at p99, 50 ms to a game character's first token, 200 ms for a
recommendation, one second for a sports overlay) are the published ones; traffic shares, token counts, tenants and
penalties are examples. None buys from the fallback API when it would be late: to a person that answer, 800 ms to its
first token, is late as well, and to agents and batch work it costs several times what lateness does.
"""

from __future__ import annotations

from gridctl.geography.catalog import LLAMA_1B, LLAMA_8B, LLAMA_70B, QWEN_30B
from gridctl.resources import (
    CachePolicy,
    JurisdictionRule,
    Metadata,
    Objective,
    Traffic,
    Workload,
    WorkloadSpec,
)

_LOCAL_LAW = JurisdictionRule(rule="same-jurisdiction")


def workloads() -> list[Workload]:
    """The nine, interactive ones first."""
    return [*_decisions(), *_conversations(), *_assistants()]


def _workload(name: str, spec: WorkloadSpec) -> Workload:
    return Workload(metadata=Metadata(name=name), spec=spec)


def _traffic(share: float, most: tuple[int | None, int | None], mean: tuple[int, int]) -> Traffic:
    return Traffic(
        share=share,
        max_input_tokens=most[0],
        max_output_tokens=most[1],
        mean_input_tokens=mean[0],
        mean_output_tokens=mean[1],
    )


def _decisions() -> list[Workload]:
    """Answers of a few tokens that something else is waiting for."""
    return [
        _workload(
            "fraud-decision",
            WorkloadSpec(
                objectives=(Objective(metric="e2e_ms", threshold_ms=500, percentile=99),),
                models=(LLAMA_1B, LLAMA_8B),
                availability=0.9999,
                access_rtt_ms=8,
                quality_floor=0.45,
                jurisdiction=_LOCAL_LAW,
                cache=CachePolicy(mode="exact", ttl_s=60),
                priority=9,
                tenants=("bank-north", "bank-south"),
                when_infeasible="serve-late",
                miss_usd=0.02,
                traffic=_traffic(10, (1024, 32), (320, 8)),
            ),
        ),
        _workload(
            "recommendations",
            WorkloadSpec(
                objectives=(Objective(metric="e2e_ms", threshold_ms=200, percentile=95),),
                models=(LLAMA_1B, LLAMA_8B),
                attainment=0.95,
                access_rtt_ms=12,
                quality_floor=0.45,
                cache=CachePolicy(mode="semantic", error_rate=0.02, ttl_s=1800),
                priority=5,
                tenants=("shop", "video"),
                when_infeasible="reject",
                miss_usd=0.0005,
                traffic=_traffic(18, (2048, 32), (400, 12)),
            ),
        ),
        _workload(
            "sports-overlay",
            WorkloadSpec(
                objectives=(Objective(metric="e2e_ms", threshold_ms=1000, percentile=99),),
                models=(LLAMA_8B, QWEN_30B),
                access_rtt_ms=12,
                quality_floor=0.6,
                cache=CachePolicy(mode="semantic", error_rate=0.01, ttl_s=30),
                priority=6,
                tenants=("broadcaster",),
                miss_usd=0.002,
                traffic=_traffic(6, (2048, 96), (600, 40)),
            ),
        ),
    ]


def _conversations() -> list[Workload]:
    """A person hears or sees the first token."""
    return [
        _workload(
            "game-npc",
            WorkloadSpec(
                objectives=(
                    Objective(metric="ttft_ms", threshold_ms=50, percentile=95),
                    Objective(metric="tpot_ms", threshold_ms=40, percentile=95),
                ),
                models=(LLAMA_1B, LLAMA_8B),
                attainment=0.95,
                access_rtt_ms=6,
                quality_floor=0.45,
                cache=CachePolicy(mode="semantic", error_rate=0.02),
                priority=7,
                tenants=("game-studio",),
                miss_usd=0.001,
                traffic=_traffic(12, (2048, 256), (350, 60)),
            ),
        ),
        _workload(
            "live-translation",
            WorkloadSpec(
                objectives=(
                    Objective(metric="network_ms", threshold_ms=40, percentile=95),
                    Objective(metric="ttft_ms", threshold_ms=300, percentile=95),
                ),
                models=(LLAMA_8B, QWEN_30B),
                attainment=0.95,
                access_rtt_ms=10,
                overhead_ms=150,
                quality_floor=0.6,
                priority=8,
                tenants=("conference", "broadcaster"),
                miss_usd=0.002,
                traffic=_traffic(8, (2048, 512), (250, 120)),
            ),
        ),
        _workload(
            "voice-agent",
            WorkloadSpec(
                objectives=(
                    Objective(metric="ttft_ms", threshold_ms=500, percentile=99),
                    Objective(metric="tpot_ms", threshold_ms=60, percentile=95),
                ),
                models=(LLAMA_8B, QWEN_30B),
                access_rtt_ms=15,
                overhead_ms=250,
                quality_floor=0.6,
                cache=CachePolicy(mode="semantic", error_rate=0.01),
                priority=8,
                tenants=("telco", "insurer", "airline"),
                miss_usd=0.005,
                traffic=_traffic(16, (8192, 1024), (900, 150)),
            ),
        ),
    ]


def _assistants() -> list[Workload]:
    """Longer contexts, and at the end work that only has to be cheap."""
    return [
        _workload(
            "retail-assistant",
            WorkloadSpec(
                objectives=(
                    Objective(metric="ttft_ms", threshold_ms=800, percentile=95),
                    Objective(metric="tpot_ms", threshold_ms=80, percentile=95),
                ),
                models=(LLAMA_8B, QWEN_30B, LLAMA_70B),
                attainment=0.95,
                access_rtt_ms=10,
                quality_floor=0.6,
                cache=CachePolicy(mode="semantic", error_rate=0.01),
                priority=5,
                tenants=("grocer", "fashion"),
                when_infeasible="serve-late",
                traffic=_traffic(14, (8192, 1024), (1200, 180)),
            ),
        ),
        _workload(
            "agent-tool-calls",
            WorkloadSpec(
                objectives=(
                    Objective(metric="ttft_ms", threshold_ms=2000, percentile=95),
                    Objective(metric="tpot_ms", threshold_ms=60, percentile=95),
                ),
                models=(QWEN_30B, LLAMA_70B),
                attainment=0.95,
                access_rtt_ms=10,
                quality_floor=0.75,
                cache=CachePolicy(mode="exact"),
                priority=4,
                tenants=("robotics", "coding"),
                when_infeasible="serve-late",
                miss_usd=0.003,
                traffic=_traffic(10, (None, 4096), (6000, 200)),
            ),
        ),
        _workload(
            "batch-reasoning",
            WorkloadSpec(
                objectives=(Objective(metric="e2e_ms", threshold_ms=600_000, percentile=95),),
                models=(LLAMA_70B,),
                attainment=0.95,
                availability=0.99,
                access_rtt_ms=20,
                quality_floor=0.8,
                priority=0,
                tenants=("research",),
                miss_usd=0.0001,
                traffic=_traffic(6, (None, None), (3000, 800)),
            ),
        ),
    ]
