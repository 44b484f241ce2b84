"""Phases of a rollout in a replay, as rows."""

from __future__ import annotations

from typing import Any

from gridctl.render.cell import counted
from gridctl.render.rows import Column


def _share(value: Any) -> str:
    return f"{value:.2%}"


def _number(value: Any) -> str:
    return f"{value:,.1f}"


def _unsaid_zero(value: Any) -> str:
    return f"{value:g}" if value else "-"


def _times(value: Any) -> str:
    return f"× {value:.2f}"


PHASE_COLUMNS = (
    Column("phase", "phase"),
    Column("wave", "wave", align="right"),
    Column("sites", "sites", align="right", text=_unsaid_zero),
    Column("from_s", "from s", align="right", text=_number),
    Column("until_s", "until s", align="right", text=_number),
    Column("link_mbit", "Mbit/s", align="right", text=_unsaid_zero),
    Column("requests", "requests", align="right", text=counted),
    Column("attainment", "good", align="right", text=_share),
    Column("calm_attainment", "calm", align="right", text=_share),
    Column("good_lost", "good lost", align="right", text=counted),
    Column("rejected", "rejected", align="right", text=counted),
    Column("failed", "failed", align="right", text=counted),
    Column("ttft_ms_p50", "ttft p50", align="right", text=_number, wide=True),
    Column("ttft_ms_p99", "ttft p99", align="right", text=_number),
    Column("calm_ttft_ms_p99", "calm p99", align="right", text=_number),
    Column("ttft_times", "wave's ttft", align="right", text=_times, wide=True),
    Column("ttft_word", "as live", wide=True),
)
