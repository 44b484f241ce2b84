"""Break-evens end to end on a toy grid, whose answer can be worked out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from smallgrids import trace, workload

from gridctl.accounts.plans import Axis
from gridctl.errors import InputError, NotFoundError, UsageError
from gridctl.network.jitter import jitter_quantile_ppm
from gridctl.planning.breakeven import CellJob, Question, Study, find_breakevens, find_cell, most_replays, prepare
from gridctl.planning.cells import Wish
from gridctl.planning.trial import Limits
from gridctl.resources import Resource, Traffic


def study_of(parts: Sequence[Resource], axes: tuple[Axis, ...] = ("rtt",), **fields: object) -> Study:
    kept = {"load_rps": 20.0, "limits": Limits(200, 8), "wish": Wish(places=2), "axes": axes} | fields
    return prepare(parts, None, Question(**kept), lambda text: None)


def test_the_edge_pays_from_the_distance_at_which_the_core_is_too_late(parts: list[Resource]) -> None:
    """Requests this small take milliseconds; 400 ms less 10 of last mile are left for the round trip and its jitter,
    of which one in a hundred may be late. The edge costs three times as much a GPU and needs two: before, it never
    pays."""
    light = workload(ttft_ms=400.0, traffic=Traffic(mean_input_tokens=20, mean_output_tokens=2))
    found = find_cell(study_of([*parts[:-1], light]), CellJob(0, 0), lambda settings: None)
    assert found.crossings["rtt"].verdict == "from"
    latest = (400.0 - 10.0) / (1 + jitter_quantile_ppm(0.99) / 1e6)
    assert found.crossings["rtt"].value == pytest.approx(latest, rel=0.1)


def test_with_one_place_and_the_same_price_nothing_tells_edge_and_core_apart(parts: list[Resource]) -> None:
    """The book's price on both sides, the same GPUs, and a core as near as the promise allows."""
    study = study_of([*parts[:5], parts[-1]], ("load",), wish=Wish(places=1, edge_gpu="l4"), regions=("EU",))
    found = find_breakevens(study, 1, jobs=1, executor="local", advanced=lambda settings: None)
    (row,) = found.items
    assert row.verdict == "same"
    assert row.breakevens[0].verdict == "never"


def test_who_replays_changes_nothing(parts: list[Resource]) -> None:
    study = study_of(parts)
    told: list[int] = []
    one = find_breakevens(study, 2, jobs=1, executor="local", advanced=told.append)
    two = find_breakevens(study, 2, jobs=2, executor="local", advanced=lambda settings: None)
    assert one == two
    assert sum(told) == study.settings * 2
    assert one.replayed <= most_replays(study) * 2
    assert len(one.curves) == 8 * len(study.cells)


def test_the_load_is_the_trace_s_where_there_is_one(parts: list[Resource]) -> None:
    asked = trace([{"at_ms": 100 * number, "output": 5} for number in range(101)])
    study = prepare(parts, asked, Question(axes=("rtt",), limits=Limits(200, 8)), lambda text: None)
    assert [cell.load_rps for cell in study.cells] == pytest.approx([101 / 10.0])
    assert len(study.traces[0]) >= 200  # repeated until there are enough


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"workloads": ("chatt",)}, NotFoundError),
        ({"regions": ("EUROPE",)}, UsageError),
        ({"regions": ("AS",)}, InputError),
        ({"wish": Wish(edge_gpu="nope")}, NotFoundError),
        ({"wish": Wish(variant="m/nope")}, InputError),
        ({"wish": Wish(prices="nope")}, NotFoundError),
        ({"replays": 0}, UsageError),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_replay(
    parts: list[Resource], fields: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        study_of(parts, **fields)


def test_a_quality_that_no_variant_reaches_is_refused_by_name(parts: list[Resource]) -> None:
    with pytest.raises(InputError, match=r"reaches quality 0\.9"):
        study_of([*parts[:-1], workload(quality_floor=0.9)])
