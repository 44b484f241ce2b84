"""What `gridctl profile validate` shows: errors of the twin against a measured run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.profiling.calibration import Calibration, Estimate
    from gridctl.profiling.validation import Validation


def _signed(value: Any) -> str:
    return f"{value:+.1f}"


def _error(key: str, title: str) -> Column:
    return Column(key, title, align="right", text=_signed)


VALIDATION_COLUMNS = (
    Column("metric", "metric"),
    Column("measured_mean_ms", "measured mean ms", align="right"),
    Column("twin_mean_ms", "twin mean ms", align="right"),
    _error("mean_error_pct", "mean %"),
    _error("p50_error_pct", "p50 %"),
    _error("p95_error_pct", "p95 %"),
    _error("p99_error_pct", "p99 %"),
    Column("mape_pct", "MAPE %", align="right"),
    Column("requests", "requests", align="right", wide=True),
    Column("preemptions", "preemptions", align="right", wide=True),
    Column("kv_blocks", "KV blocks", align="right", wide=True),
    Column("profile", "profile", wide=True),
)


def validation_items(profile: str, result: Validation) -> list[dict[str, object]]:
    """One item per metric; times in milliseconds, errors in percent of the measured value."""
    return [
        {
            "metric": error.metric,
            "measured_mean_ms": round(error.measured_mean_ms, 3),
            "twin_mean_ms": round(error.twin_mean_ms, 3),
            "mean_error_pct": round(error.mean * 100, 3),
            "p50_error_pct": round(error.p50 * 100, 3),
            "p95_error_pct": round(error.p95 * 100, 3),
            "p99_error_pct": round(error.p99 * 100, 3),
            "mape_pct": round(error.mape * 100, 3),
            "requests": result.requests,
            "preemptions": result.preemptions,
            "kv_blocks": result.kv_blocks,
            "profile": profile,
        }
        for error in result.errors
    ]


CALIBRATION_COLUMNS = (
    Column("coefficient", "coefficient"),
    Column("tokens", "tokens", align="right"),
    Column("us", "µs", align="right"),
    Column("standard_error_us", "± µs", align="right"),
)


def calibration_items(calibration: Calibration) -> list[dict[str, object]]:
    """One item per coefficient: microseconds and their standard error."""
    items = [_coefficient("dense", knot.us, knot.tokens) for knot in calibration.dense]
    items.append(_coefficient("decode attention, per KV token", calibration.kv_us_per_token))
    items.append(_coefficient("prefill attention, per token pair", calibration.pair_us))
    items.append(_coefficient("request, beside its steps", calibration.request_us))
    return items


def _coefficient(name: str, estimate: Estimate, tokens: int | None = None) -> dict[str, object]:
    return {
        "coefficient": name,
        "tokens": tokens,
        "us": float(f"{estimate.value:.6g}"),
        "standard_error_us": float(f"{estimate.standard_error:.3g}"),
    }
