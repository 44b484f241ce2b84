"""The page for Prometheus: read back by the reference parser in both formats, and held to hand-made counts."""

from __future__ import annotations

import re
import time
from collections import defaultdict

import numpy as np
import pytest

from gridctl.signals import metrics
from gridctl.signals.board import Board, Scraped
from gridctl.signals.cache_counts import CacheCounts, SharedTier
from gridctl.signals.directory import BackendRow, Directory, Objective, WorkloadRow, enrolled
from gridctl.signals.exposition import SHOWN_CELLS, busiest_sites, exposition
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.rows import FRESH
from gridctl.signals.textformat import best_format
from gridctl.signals.totals import read_totals

openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser", reason="pip install prometheus-client")
prometheus = pytest.importorskip("prometheus_client.parser")

MS = 1_000_000
S = 1_000_000_000
NOW_NS = 1000 * S

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(text: str, style: str = "prometheus") -> Samples:
    """Samples by name and labels, by the reference parser; a sample written twice fails."""
    parse = (
        openmetrics.text_string_to_metric_families
        if style == "openmetrics"
        else (prometheus.text_string_to_metric_families)
    )
    found: Samples = defaultdict(dict)
    for family in parse(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found[sample.name], (sample.name, labels)
            found[sample.name][labels] = sample.value
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name][tuple(sorted(labels.items()))]


def finish(
    meter: Meter, workload: str, backend: int, ttft_ms: float, outcome: str = "completed", **fields: object
) -> None:
    request = Finished(
        workload=workload,
        model="llama",
        backend=backend,
        outcome=outcome,
        status=200 if outcome == "completed" else 502,
        arrival_ns=S,
        decided_ns=S + MS,
        first_token_ns=S + round(ttft_ms * MS),
        last_token_ns=S + round(ttft_ms * MS) + 90 * MS,
        end_ns=S + round(ttft_ms * MS) + 90 * MS,
        prompt_tokens=100,
        cached_tokens=64,
        output_tokens=10,
        usd=0.00025,
        attempts=2,
        stream=True,
    )
    for name, value in fields.items():
        setattr(request, name, value)
    meter.finished(request)


@pytest.fixture
def busy(board: Board, directory: Directory) -> Board:
    """Four requests of two workers, two engines with reports, one worker alive."""
    first, second = Meter(board, 0), Meter(board, 1)
    finish(first, "voice", 0, 200.0, predicted_ttft_us=250_000.0)
    finish(first, "voice", 0, 500.0, predicted_ttft_us=450_000.0)
    finish(second, "voice", 1, 500.000001, objective_misses=("ttft_ms",))
    finish(second, "voice", -1, 5.0, outcome="rejected", reason="no-candidate", first_token_ns=-1, attempts=0)
    board.report(0, Scraped(NOW_NS - 2 * S, S, 3, 2, 4000, 8000, 250_000, FRESH))
    board.set_health(1, 3, 50_000)
    board.slots[0, 0].in_flight, board.slots[1, 0].in_flight = 4, 5
    board.slots[1, 0].connect_failures, board.slots[1, 0].failures = 7, 9
    board.beat(0, NOW_NS - S // 2, pid=99, connections=12, loop_lag_ns=3 * MS, generation=2)
    return board


@pytest.mark.parametrize("style", ["prometheus", "openmetrics"])
def test_the_reference_parser_reads_back_what_was_counted(busy: Board, style: str) -> None:
    samples = read(exposition(busy, NOW_NS, style), style)  # type: ignore[arg-type]
    place = {"site": "paris", "cluster": "paris-l4", "model": "llama"}
    assert one(samples, "gridctl_site_requests_total", workload="voice", outcome="completed", **place) == 2
    assert one(samples, "gridctl_site_ttft_seconds_count", **place) == 2
    assert one(samples, "gridctl_site_ttft_seconds_sum", **place) == pytest.approx(0.7, abs=1e-5)
    assert one(samples, "gridctl_requests_total", workload="voice", outcome="completed", model="llama") == 3
    assert one(samples, "gridctl_requests_total", workload="voice", outcome="rejected", model="") == 1
    assert one(samples, "gridctl_slo_events_total", workload="voice", verdict="good") == 2
    assert one(samples, "gridctl_slo_events_total", workload="voice", verdict="bad") == 2
    assert one(samples, "gridctl_slo_miss_total", workload="voice", objective="ttft") == 1
    assert one(samples, "gridctl_tokens_total", workload="voice", type="input") == 400
    assert one(samples, "gridctl_tokens_total", workload="voice", type="cached") == 256
    assert one(samples, "gridctl_tokens_total", workload="voice", type="output") == 40
    assert one(samples, "gridctl_cost_usd_total", workload="voice", kind="predicted") == pytest.approx(0.001)
    assert one(samples, "gridctl_retries_total", workload="voice") == 3
    assert one(samples, "gridctl_rejected_total", outcome="rejected", reason="no-candidate") == 1
    assert one(samples, "gridctl_upstream_errors_total", kind="connect") == 7
    assert one(samples, "gridctl_upstream_errors_total", kind="answer") == 2
    # 50 ms over, 50 ms under.
    over = {"workload": "voice", "objective": "ttft"}
    assert one(samples, "gridctl_predictions_total", **over) == 2
    assert one(samples, "gridctl_prediction_error_seconds_total", **over, direction="over") == pytest.approx(0.05)
    assert one(samples, "gridctl_prediction_error_seconds_total", **over, direction="under") == pytest.approx(0.05)


@pytest.mark.parametrize("style", ["prometheus", "openmetrics"])
def test_counts_at_objectives_are_exact_and_buckets_only_rise(busy: Board, style: str) -> None:
    samples = read(exposition(busy, NOW_NS, style), style)  # type: ignore[arg-type]
    assert one(samples, "gridctl_ttft_seconds_bucket", workload="voice", le="0.2") == 1
    assert one(samples, "gridctl_ttft_seconds_bucket", workload="voice", le="0.5") == 2
    assert one(samples, "gridctl_ttft_seconds_bucket", workload="voice", le="+Inf") == 3
    assert one(samples, "gridctl_ttft_seconds_count", workload="voice") == 3
    assert one(samples, "gridctl_ttft_seconds_sum", workload="voice") == pytest.approx(1.2, abs=2e-6)
    for name, series in samples.items():
        if name.endswith("_bucket"):
            rising = defaultdict(list)
            for labels, value in series.items():
                bound = float(dict(labels)["le"])
                rising[tuple(label for label in labels if label[0] != "le")].append((bound, value))
            for labels, points in rising.items():
                points.sort()
                values = [value for _, value in points]
                assert values == sorted(values)
                assert points[-1][0] == float("inf")
                assert values[-1] == samples[name.removesuffix("bucket") + "count"][labels]


def test_engines_workers_and_their_states(busy: Board) -> None:
    samples = read(exposition(busy, NOW_NS))
    paris = {"site": "paris", "cluster": "paris-l4", "model": "llama", "variant": "bf16", "engine": "0"}
    lyon = {"site": "lyon", "cluster": "lyon-l4", "model": "llama", "variant": "int8", "engine": "1"}
    assert one(samples, "gridctl_inflight", **paris) == 9
    assert one(samples, "gridctl_queue_depth", **paris) == 2
    assert one(samples, "gridctl_kv_used_tokens", **paris) == 4000
    assert one(samples, "gridctl_prefix_hit_ratio", **paris) == 0.25
    assert one(samples, "gridctl_telemetry_age_seconds", **paris) == 2.0
    assert one(samples, "gridctl_telemetry_state", **paris, state="fresh") == 1
    assert one(samples, "gridctl_telemetry_state", **lyon, state="never") == 1
    assert tuple(sorted(lyon.items())) not in samples["gridctl_queue_depth"]
    assert tuple(sorted(lyon.items())) not in samples["gridctl_telemetry_age_seconds"]
    assert one(samples, "gridctl_circuit_state", **lyon, state="ejected") == 1
    assert one(samples, "gridctl_admitted_ratio", **lyon) == 0.05
    assert one(samples, "gridctl_workers") == 1
    assert one(samples, "gridctl_open_connections", side="client") == 12
    assert one(samples, "gridctl_loop_lag_seconds", worker="0") == 0.003
    assert one(samples, "gridctl_heartbeat_age_seconds", worker="0") == 0.5
    assert one(samples, "gridctl_plan_generation", worker="0") == 2


def test_opentelemetry_names_with_their_attributes(busy: Board) -> None:
    samples = read(exposition(busy, NOW_NS))
    labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "llama"}
    assert one(samples, "gen_ai_server_time_to_first_token_seconds_bucket", **labels, le="0.5") == 2
    assert one(samples, "gen_ai_server_time_to_first_token_seconds_count", **labels) == 3
    assert one(samples, "gen_ai_server_request_duration_seconds_count", **labels) == 3
    assert one(samples, "gen_ai_server_request_duration_seconds_count", **labels, error_type="_OTHER") == 1
    assert one(samples, "gen_ai_server_time_per_output_token_seconds_bucket", **labels, le="0.01") == 3
    assert one(samples, "gen_ai_client_token_usage_bucket", **labels, gen_ai_token_type="input", le="256") == 4
    assert one(samples, "gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="output") == 40


def test_the_rules_that_promtool_checks_hold(busy: Board) -> None:
    """One HELP and TYPE before the samples of each family, families in one piece, units and `_total` in names."""
    text = exposition(busy, NOW_NS)
    assert text.endswith("\n")
    seen: list[str] = []
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in seen
            seen.append(name)
            kinds[name] = kind
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
            assert (kind == "counter") == name.endswith("_total")
        elif not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            family = seen[-1]
            assert name == family or (
                kinds[family] == "histogram" and name.removeprefix(family) in ("_bucket", "_sum", "_count")
            )
            assert "tenant" not in line
            assert "request_id" not in line
    for metric in metrics.ALL:
        assert not re.search(r"_(ms|us|ns|percent|milliseconds)(_|$)", metric.name)
        assert metric.help.endswith(".")
    assert len({metric.name for metric in metrics.ALL}) == len(metrics.ALL)


def test_every_metric_of_the_table_is_on_a_page_that_has_everything(busy: Board) -> None:
    finish(Meter(busy, 2), "voice", 0, 5.0, outcome="failed", reason="truncated")
    CacheCounts(busy, 2).add("voice", "misses")
    CacheCounts(busy, 2).reason("absent")
    shared = SharedTier(is_up=True, owed=2, counts={"hits": 3, "late": 1, "stored": 5})
    text = exposition(busy, NOW_NS, cache_bounds={"voice": 0.004}, cache_shared=shared)
    assert [metric.name for metric in metrics.ALL if f"# TYPE {metric.name} {metric.kind}\n" not in text] == []


@pytest.mark.parametrize("style", ["prometheus", "openmetrics"])
def test_names_with_quotes_and_newlines_survive_the_parser(board: Board, style: str) -> None:
    odd = 'a"b\\c\nd{e="f"} 1'
    names = enrolled(
        Directory(), (WorkloadRow(odd),), (odd,), ((0, BackendRow(odd, odd, odd)),), most_workloads=6, most_models=9
    )
    board.write_directory(names)
    finish(Meter(board, 0), odd, 0, 5.0, model=odd)
    samples = read(exposition(board, NOW_NS, style), style)  # type: ignore[arg-type]
    found = one(
        samples, "gridctl_site_requests_total", workload=odd, site=odd, cluster=odd, model=odd, outcome="completed"
    )
    assert found == 1


def test_sites_beyond_the_busiest_are_in_the_sums_only(board: Board, directory: Directory) -> None:
    meter = Meter(board, 0)
    for backend, times in ((0, 1), (1, 5), (2, 3)):
        for _ in range(times):
            finish(meter, "voice", backend, 5.0)
    assert busiest_sites(read_totals(board), 2) == {"lyon", "core-eu"}
    samples = read(exposition(board, NOW_NS, most_sites=1))
    requests = {dict(labels)["site"]: value for labels, value in samples["gridctl_site_requests_total"].items()}
    assert requests == {"lyon": 5}
    assert sum(samples["gridctl_requests_total"].values()) == 9
    assert {dict(labels)["site"] for labels in samples["gridctl_inflight"]} == {"lyon"}


def test_a_workload_with_changed_objectives_is_shown_once_with_the_new_bound(
    board: Board, directory: Directory
) -> None:
    meter = Meter(board, 0)
    finish(meter, "voice", 0, 150.0)
    board.write_directory(
        enrolled(
            directory,
            (WorkloadRow("voice", (Objective("ttft_ms", 100 * MS),)),),
            (),
            (),
            most_workloads=6,
            most_models=9,
        )
    )
    meter.refresh()
    finish(meter, "voice", 0, 100.0)
    samples = read(exposition(board, NOW_NS))
    assert one(samples, "gridctl_ttft_seconds_bucket", workload="voice", le="0.1") == 1
    assert one(samples, "gridctl_ttft_seconds_count", workload="voice") == 2
    assert not any(dict(labels)["le"] in ("0.2", "0.5") for labels in samples["gridctl_ttft_seconds_bucket"])


def test_quantiles_and_rates_of_what_was_counted_between_two_readings(board: Board, directory: Directory) -> None:
    meter = Meter(board, 0)
    finish(meter, "voice", 0, 5.0)
    before = read_totals(board)
    for ttft_ms in (100.0, 200.0, 300.0):
        finish(meter, "batch", 1, ttft_ms)
    between = read_totals(board).since(before)
    assert between.counted("voice").requests == 0
    assert between.counted("batch", "lyon").good == 3
    assert between.counted("batch", "paris").requests == 0
    # 15 ms that the clients of batch wait unseen.
    assert between.histogram("ttft", "batch").quantile_ms(0.5) == pytest.approx(215, rel=0.01)
    assert between.histogram("ttft").mean_ms() == pytest.approx(215, rel=1e-6)
    assert between.histogram("ttft", "voice").quantile_ms(0.5) is None
    assert between.usd() == pytest.approx(0.00075)


def test_the_same_board_and_time_give_the_same_page(busy: Board) -> None:
    assert exposition(busy, NOW_NS) == exposition(busy, NOW_NS)


def test_an_empty_board_has_a_page(board: Board) -> None:
    for style in ("prometheus", "openmetrics"):
        assert read(exposition(board, NOW_NS, style), style)["gridctl_workers"] == {(): 0}  # type: ignore[arg-type]


def test_an_engine_of_an_earlier_plan_is_shown_no_more(busy: Board) -> None:
    busy.engines.generation[[0, 2]] = 2
    busy.engines.generation[1] = 1
    samples = read(exposition(busy, NOW_NS))
    assert {dict(labels)["site"] for labels in samples["gridctl_inflight"]} == {"paris", "core-eu"}
    assert {dict(labels)["site"] for labels in samples["gridctl_site_requests_total"]} == {"paris", "lyon"}


def test_the_format_follows_what_is_accepted() -> None:
    assert best_format("*/*") == "prometheus"
    assert best_format("application/openmetrics-text;version=1.0.0,application/openmetrics-text;q=0.5") == "openmetrics"


def test_a_page_of_a_large_grid_is_bounded_and_quick(name: str) -> None:
    """1,000 engines at 500 sites: at most a second and a few megabytes, because 50 sites are shown."""
    with Board.create(name, 4) as board:
        rows = [(row, BackendRow(f"site-{row // 2:03}", f"c-{row}", "llama", "bf16", "edge")) for row in range(1000)]
        workloads = [WorkloadRow(f"w{n}", (Objective("ttft_ms", 500 * MS),)) for n in range(9)]
        board.write_directory(enrolled(Directory(), workloads, ("llama",), rows, most_workloads=32, most_models=64))
        draw = np.random.default_rng(1)
        meter = Meter(board, 0)
        for _ in range(3000):
            finish(meter, f"w{draw.integers(9)}", int(draw.integers(1000)), 5.0)
        began = time.process_time()
        text = exposition(board, NOW_NS)
        assert time.process_time() - began < 1.0
        assert len(text) < 1_000_000
        assert len(SHOWN_CELLS) < 30
        board.unlink()
