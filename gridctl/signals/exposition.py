"""Exposition: all workers' counts and the engines' states as one page for Prometheus.

Labels are bounded: workloads and models that are enrolled, outcomes and reasons of fixed lists, and the busiest
`most_sites` sites; the others are in the sums only. Never a tenant, a request or a client.

Histograms show every 35th of their 898 bounds, which doubles, and every objective: the count at an objective's bound is
exact, and so is every other, because bounds shown are bounds counted by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gridctl import __version__
from gridctl.signals import buckets, metrics
from gridctl.signals.board import Board
from gridctl.signals.cache_counts import SharedTier, show_cache, show_shared
from gridctl.signals.finished import OTHER, OUTCOMES
from gridctl.signals.layout import GENAI, OPERATIONS
from gridctl.signals.metrics import Metric
from gridctl.signals.rows import ALL_TRAFFIC_PPM, HEALTH_STATES, NOT_REPORTED, TELEMETRY_STATES
from gridctl.signals.textformat import Format, Labels, Page
from gridctl.signals.totals import GenaiHistogram, Histogram, PlaceHistogram, Totals, read_totals
from gridctl.units import NS_PER_S

MOST_SITES = 50
SHOWN_CELLS = tuple(range(0, buckets.OVER, 7 * buckets.STEP))
US_PER_S = 1_000_000
PPM = 1_000_000
UNSTATED = "unstated"
"""In place of a reason that nobody gave."""
_GENAI_AT = {name: index for index, name in enumerate(GENAI)}


class Engine(NamedTuple):
    """A row of the board that has an engine, with the labels it is shown by."""

    row: int
    labels: Labels


def exposition(
    board: Board,
    now_ns: int,
    style: Format = "prometheus",
    most_sites: int = MOST_SITES,
    *,
    cache_bounds: Mapping[str, float] | None = None,
    cache_shared: SharedTier | None = None,
) -> str:
    """The page. `now_ns` is the monotonic clock of the board's times; `cache_bounds` are the cache's error bounds by
    workload, `cache_shared` the server it shares. The same board and time give the same page."""
    totals = read_totals(board)
    shown = busiest_sites(totals, most_sites)
    page = Page(style)
    page.family(metrics.BUILD)
    page.sample(1, [("version", __version__)])
    _requests(page, totals, shown)
    _promises(page, totals)
    _durations(page, totals)
    _place_durations(page, totals, shown)
    _amounts(page, totals)
    _words(page, totals)
    engines = _engines(board, totals, shown)
    _upstream_errors(page, board)
    _loads(page, board, engines)
    _telemetry(page, board, engines, now_ns)
    _health(page, board, engines)
    _workers(page, board, now_ns)
    show_cache(page, totals, cache_bounds or {})
    show_shared(page, cache_shared)
    _genai(page, totals)
    return page.text()


def busiest_sites(totals: Totals, most: int) -> frozenset[str]:
    """The sites that most requests went to; by name among equals."""
    requests = dict.fromkeys(totals.sites(), 0)
    per_engine = totals.engine_counts()[:, :, : len(OUTCOMES)].sum(axis=(0, 2)).tolist()
    for row, backend in enumerate(totals.directory.backends):
        if backend.site:
            requests[backend.site] += per_engine[row]
    return frozenset(sorted(requests, key=lambda site: (-requests[site], site))[:most])


def _engines(board: Board, totals: Totals, shown: frozenset[str]) -> list[Engine]:
    """The engines of the newest plan at the sites that are shown."""
    generations = board.engines.generation
    newest = int(generations.max())
    return [
        Engine(row, _engine_labels(totals, row))
        for row in range(len(totals.directory.backends))
        if totals.backend(row).site in shown and int(generations[row]) == newest
    ]


def _engine_labels(totals: Totals, row: int) -> Labels:
    backend = totals.backend(row)
    return (
        ("site", backend.site),
        ("cluster", backend.cluster),
        ("model", backend.model),
        ("variant", backend.variant),
        ("engine", str(row)),
    )


def _requests(page: Page, totals: Totals, shown: frozenset[str]) -> None:
    """By workload, model and outcome; and by place, where it is shown. Places come and go with their traffic, so they
    are in a family of their own: a sum of the others would go down when one of them is shown."""
    counts = totals.engine_counts()
    by_model: dict[tuple[str, str, str], int] = {}
    by_place: dict[tuple[str, str, str, str, str], int] = {}
    for row, engine, outcome in np.argwhere(counts[: len(totals.directory.workloads), :, : len(OUTCOMES)]).tolist():
        backend = totals.backend(engine)
        workload, count = totals.directory.workloads[row].name, int(counts[row, engine, outcome])
        model = workload, backend.model, OUTCOMES[outcome]
        by_model[model] = by_model.get(model, 0) + count
        if backend.site in shown:
            place = workload, backend.site, backend.cluster, backend.model, OUTCOMES[outcome]
            by_place[place] = by_place.get(place, 0) + count
    page.family(metrics.REQUESTS)
    for labels, count in sorted(by_model.items()):
        page.sample(count, tuple(zip(("workload", "model", "outcome"), labels, strict=True)))
    page.family(metrics.SITE_REQUESTS)
    for place, count in sorted(by_place.items()):
        page.sample(count, tuple(zip(("workload", "site", "cluster", "model", "outcome"), place, strict=True)))


def _promises(page: Page, totals: Totals) -> None:
    page.family(metrics.VERDICTS)
    for workload in totals.workloads():
        counted = totals.counted(workload)
        for word in ("good", "bad", "excluded"):
            page.sample(getattr(counted, word), (("workload", workload), ("verdict", word)))
    page.family(metrics.MISSES)
    for workload in totals.workloads():
        for objective in ("ttft_ms", "tpot_ms", "e2e_ms"):
            missed = totals.total(f"missed_{objective}", workload)
            page.sample(missed, (("workload", workload), ("objective", objective.removesuffix("_ms"))))


def _durations(page: Page, totals: Totals) -> None:
    for metric, kind in (
        (metrics.DURATION, "e2e"),
        (metrics.TTFT, "ttft"),
        (metrics.TPOT, "tpot"),
        (metrics.DECISION, "decision"),
    ):
        page.family(metric)
        for workload in totals.workloads():
            histogram = totals.histogram(kind, workload)
            page.histogram(
                shown_buckets(histogram), histogram.requests, histogram.sum_us / US_PER_S, (("workload", workload),)
            )


def _place_durations(page: Page, totals: Totals, shown: frozenset[str]) -> None:
    """TTFT and TPOT by site, cluster and model, of the sites that are shown and where there was any."""
    engines: dict[tuple[str, str, str], list[int]] = {}
    for row, backend in enumerate(totals.directory.backends):
        if backend.site in shown:
            engines.setdefault((backend.site, backend.cluster, backend.model), []).append(row)
    for metric, read in ((metrics.SITE_TTFT, totals.place_ttft), (metrics.SITE_TPOT, totals.place_tpot)):
        page.family(metric)
        for place, rows in sorted(engines.items()):
            histogram = read(rows)
            if histogram.requests:
                labels = tuple(zip(("site", "cluster", "model"), place, strict=True))
                page.histogram(_coarse_buckets(histogram), histogram.requests, histogram.sum_us / US_PER_S, labels)


def _coarse_buckets(histogram: PlaceHistogram) -> list[tuple[float, int]]:
    """Cumulative counts at the bounds that every histogram shows, which are bounds of the coarse cells, too."""
    cumulative = np.cumsum(histogram.counts)
    return [(buckets.EDGES[cell] / NS_PER_S, int(cumulative[cell // buckets.STEP])) for cell in SHOWN_CELLS]


def shown_buckets(histogram: Histogram) -> list[tuple[float, int]]:
    """Cumulative counts at some of the bounds counted by and at every objective, by rising bound in seconds."""
    cumulative = np.cumsum(histogram.counts)
    counts = {buckets.EDGES[cell]: int(cumulative[cell]) for cell in SHOWN_CELLS} | histogram.within
    return [(bound / NS_PER_S, counts[bound]) for bound in sorted(counts)]


def _amounts(page: Page, totals: Totals) -> None:
    """Tokens, dollars and further attempts, by workload."""
    page.family(metrics.TOKENS)
    for workload in totals.workloads():
        for word, name in (("input", "prompt_tokens"), ("cached", "cached_tokens"), ("output", "output_tokens")):
            page.sample(totals.total(name, workload), (("workload", workload), ("type", word)))
    for metric, name in (
        (metrics.ESTIMATED, "estimated_tokens"),
        (metrics.STREAMS, "streams"),
        (metrics.RETRIES, "retries"),
    ):
        page.family(metric)
        for workload in totals.workloads():
            page.sample(totals.total(name, workload), (("workload", workload),))
    page.family(metrics.COST)
    for workload in totals.workloads():
        page.sample(totals.usd(workload), (("workload", workload), ("kind", "predicted")))
    page.family(metrics.PREDICTIONS)
    for workload in totals.workloads():
        for objective in ("ttft", "tpot"):
            predictions = totals.total(f"{objective}_predictions", workload)
            page.sample(predictions, (("workload", workload), ("objective", objective)))
    page.family(metrics.PREDICTION_ERROR)
    for workload in totals.workloads():
        for objective in ("ttft", "tpot"):
            signed = totals.total(f"{objective}_error_us", workload)
            sizes = totals.total(f"{objective}_absolute_error_us", workload)
            labels = (("workload", workload), ("objective", objective))
            page.sample((sizes + signed) / 2 / US_PER_S, (*labels, ("direction", "over")))
            page.sample((sizes - signed) / 2 / US_PER_S, (*labels, ("direction", "under")))


def _words(page: Page, totals: Totals) -> None:
    """Why requests were not served or did not end well."""
    for metric, outcomes in ((metrics.REJECTED, ("refused", "rejected")), (metrics.FAILURES, ("failed", "expired"))):
        page.family(metric)
        for outcome in outcomes:
            for reason, count in totals.reasons(outcome).items():
                page.sample(count, (("outcome", outcome), ("reason", reason or UNSTATED)))
    page.family(metrics.CANCELLED)
    for phase, count in totals.cancelled_in().items():
        page.sample(count, (("phase", phase),))
    page.family(metrics.ENDPOINTS)
    for endpoint, count in totals.endpoints().items():
        page.sample(count, (("endpoint", endpoint),))


def _upstream_errors(page: Page, board: Board) -> None:
    page.family(metrics.UPSTREAM_ERRORS)
    unreached, failed = int(board.slots["connect_failures"].sum()), int(board.slots["failures"].sum())
    # An attempt that got no connection is counted at once as that, and as failed when it is given up.
    for word, count in (("connect", unreached), ("answer", max(0, failed - unreached))):
        page.sample(count, (("kind", word),))


def _loads(page: Page, board: Board, engines: list[Engine]) -> None:
    """What the workers have at the engines now."""
    loads = board.loads(np.zeros((board.backends, 3), np.int64))
    for metric, column in ((metrics.IN_FLIGHT, 0), (metrics.PENDING, 1)):
        page.family(metric)
        for engine in engines:
            page.sample(int(loads[engine.row, column]), engine.labels)


def _telemetry(page: Page, board: Board, engines: list[Engine], now_ns: int) -> None:
    """What the engines say of themselves; what one does not say is left out."""
    scraped = {engine: board.scraped(engine.row) for engine in engines}

    def family(metric: Metric, field: str, scale: float = 1) -> None:
        page.family(metric)
        for engine, row in scraped.items():
            value = getattr(row, field)
            if value != NOT_REPORTED:
                page.sample(value / scale if scale != 1 else value, engine.labels)

    family(metrics.RUNNING, "running")
    family(metrics.QUEUE, "waiting")
    family(metrics.KV_USED, "kv_used_tokens")
    family(metrics.KV_CAPACITY, "kv_capacity_tokens")
    family(metrics.PREFIX_HITS, "prefix_hit_ppm", PPM)
    page.family(metrics.TELEMETRY_AGE)
    for engine, row in scraped.items():
        if row.scrape_ns > 0:
            page.sample(max(0, now_ns - row.scrape_ns) / NS_PER_S, engine.labels)
    page.family(metrics.TELEMETRY_STATE)
    for engine, row in scraped.items():
        page.sample(1, (*engine.labels, ("state", _word(TELEMETRY_STATES, row.telemetry_state))))
    page.family(metrics.SCRAPE_ERRORS)
    for engine in engines:
        page.sample(int(board.engines[engine.row].scrape_errors), engine.labels)


def _health(page: Page, board: Board, engines: list[Engine]) -> None:
    page.family(metrics.CIRCUIT)
    for engine in engines:
        word = _word(HEALTH_STATES, int(board.engines[engine.row].health))
        page.sample(1, (*engine.labels, ("state", word)))
    page.family(metrics.ADMITTED)
    for engine in engines:
        page.sample(int(board.engines[engine.row].admit_ppm) / ALL_TRAFFIC_PPM, engine.labels)


def _workers(page: Page, board: Board, now_ns: int) -> None:
    alive = [worker for worker in range(board.workers) if int(board.heartbeats[worker].pid) != 0]
    rows = {worker: board.heartbeats[worker] for worker in alive}
    page.family(metrics.WORKERS)
    page.sample(len(alive))
    page.family(metrics.CONNECTIONS)
    page.sample(sum(int(row.connections) for row in rows.values()), (("side", "client"),))
    page.sample(int(board.slots["connections"].sum()), (("side", "engine"),))
    for metric, field, scale in (
        (metrics.LOOP_LAG, "loop_lag_ns", NS_PER_S),
        (metrics.GENERATION, "generation", 1),
    ):
        page.family(metric)
        for worker, row in rows.items():
            page.sample(int(row[field]) / scale, (("worker", str(worker)),))
    page.family(metrics.BEAT_AGE)
    for worker, row in rows.items():
        page.sample(max(0, now_ns - int(row.beat_ns)) / NS_PER_S, (("worker", str(worker)),))


def _genai(page: Page, totals: Totals) -> None:
    """The same requests under OpenTelemetry's names, by operation and model, where there were any."""
    served = [
        (model, operation)
        for model in range(len(totals.directory.models))
        for operation in range(len(OPERATIONS))
        if any(sum(totals.genai(model, operation, kind).counts) for kind in range(len(GENAI)))
    ]
    families: tuple[tuple[Metric, tuple[tuple[str, Labels], ...], float], ...] = (
        (
            metrics.GENAI_DURATION,
            (("duration", ()), ("failed_duration", ((metrics.GENAI_ERROR, metrics.ANY_ERROR),))),
            US_PER_S,
        ),
        (metrics.GENAI_TTFT, (("ttft", ()),), US_PER_S),
        (metrics.GENAI_TPOT, (("tpot", ()),), US_PER_S),
        (
            metrics.GENAI_TOKENS,
            (
                ("input_tokens", ((metrics.GENAI_TOKEN_TYPE, "input"),)),
                ("output_tokens", ((metrics.GENAI_TOKEN_TYPE, "output"),)),
            ),
            1,
        ),
    )
    for metric, parts, scale in families:
        page.family(metric)
        for model, operation in served:
            labels = (
                (metrics.GENAI_OPERATION, OPERATIONS[operation]),
                (metrics.GENAI_PROVIDER, metrics.PROVIDER),
                (metrics.GENAI_MODEL, totals.directory.models[model]),
            )
            for kind, more in parts:
                _genai_histogram(page, totals.genai(model, operation, _GENAI_AT[kind]), scale, (*labels, *more))


def _genai_histogram(page: Page, histogram: GenaiHistogram, scale: float, labels: Labels) -> None:
    total = sum(histogram.counts)
    if total == 0:
        return
    cumulative = np.cumsum(histogram.counts).tolist()
    bounds = [edge / scale for edge in histogram.edges]
    page.histogram(list(zip(bounds, cumulative, strict=False)), total, histogram.sum / scale, labels)


def _word(words: tuple[str, ...], code: int) -> str:
    return words[code] if 0 <= code < len(words) else OTHER
