"""ServeGen pools as traces: small tables with known answers, and the published m-small pool against itself."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gridctl.errors import GridctlError, InputError, NotFoundError, UsageError
from gridctl.resources import Site, Workload
from gridctl.traces.randomness import gammas
from gridctl.traces.reader import read_trace
from gridctl.traces.servegen_arrivals import (
    gap_spreads,
    log_gamma,
    weibull_spread,
    window_arrivals,
    window_counts,
)
from gridctl.traces.servegen_lengths import length_tables
from gridctl.traces.servegen_pool import WINDOW_S, ServegenPool, read_pool
from gridctl.traces.servegen_stream import ServegenSpan, ServegenStream
from gridctl.traces.trace import UNSAID, Trace
from gridctl.traces.writer import Header, write_stream, write_trace

MakeSite = Callable[..., Site]
MakeWorkload = Callable[..., Workload]

RATES = """\
client,t_s,rate_rps,cv,dist,shape,scale
7,0,2.0,1.0,Gamma,1.0,0.5
7,600,1.0,3.0,Weibull,0.4,0.3
12,0,0.5,1.0,Gamma,1.0,2.0
"""
LENGTHS = """\
client,t_s,field,p10,p50,p90,mean
7,0,input_tokens,100,200,400,230
7,0,output_tokens,1,10,20,11
"""


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a pool named tiny."""

    def write_tables(rates: str = RATES, lengths: str = LENGTHS) -> Path:
        (tmp_path / "servegen_tiny_rates.csv").write_text(rates)
        (tmp_path / "servegen_tiny_lengths.csv").write_text(lengths)
        return tmp_path

    return write_tables


@pytest.fixture(scope="module")
def small(real_traces: Path) -> ServegenPool:
    return read_pool([real_traces], "m-small")


def drawn(stream: ServegenStream) -> list[Trace]:
    return list(stream.pieces())


def column(parts: list[Trace], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


def gap_cv(times: np.ndarray) -> float:
    gaps = np.diff(times)
    return float(gaps.std() / gaps.mean())


def test_rows_become_arrays_by_client_and_window(tables: Callable[..., Path]) -> None:
    pool = read_pool([tables()], "tiny")
    assert (pool.name, pool.clients, pool.windows) == ("tiny", ("7", "12"), 2)
    assert pool.rate_rps.tolist() == [[2.0, 1.0], [0.5, 0.0]]
    assert pool.is_weibull.tolist() == [[False, True], [False, False]]
    assert pool.probability.tolist() == [0.1, 0.5, 0.9]
    assert pool.quantile[1, 0, 0].tolist() == [1, 10, 20]
    assert pool.is_measured.tolist() == [[True], [False]]


def test_the_two_files_are_told_apart_by_their_content_in_any_order(tables: Callable[..., Path]) -> None:
    folder = tables()
    paths = [folder / "servegen_tiny_lengths.csv", folder / "servegen_tiny_rates.csv"]
    assert read_pool(paths).clients == read_pool(paths[::-1]).clients == ("7", "12")


def test_every_window_has_its_rate_to_within_one_request(tables: Callable[..., Path]) -> None:
    pool = read_pool([tables()], "tiny")
    counts = np.array([[window_counts(pool, window, 0.1, seed) for window in (0, 1)] for seed in range(400)])
    assert set(np.unique(counts[:, 0, 0])) == {120}  # 2 × 600 × 0.1
    assert set(np.unique(counts[:, 1, 0])) == {60}
    thirds = np.array([window_counts(pool, 0, 1 / 900, seed)[1] for seed in range(900)])  # 0.5 × 600 / 900
    assert set(np.unique(thirds)) == {0, 1}
    assert thirds.mean() == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 900))


@pytest.mark.parametrize(("cv", "weibull"), [(0.5, False), (2.0, False), (0.5, True), (1.0, True), (3.0, True)])
def test_gaps_keep_their_coefficient_of_variation(tables: Callable[..., Path], cv: float, weibull: bool) -> None:
    pool = read_pool([tables()], "tiny")
    pool = replace(pool, rate_rps=np.array([[200.0]]), cv=np.array([[cv]]), is_weibull=np.array([[weibull]]))
    pool = replace(pool, clients=("7",))
    counts = window_counts(pool, 0, 1.0, 5)
    times, _, _ = window_arrivals(pool, gap_spreads(pool.cv, pool.is_weibull)[:, 0], 0, counts, 5)
    assert len(times) == 120_000
    assert gap_cv(times) == pytest.approx(cv, rel=0.05)


def test_gamma_gaps_are_gamma_distributed(tables: Callable[..., Path]) -> None:
    """Gaps n·Dirichlet(k, …, k): their cube has mean (k+1)(k+2)/k² for large n, which no other shape shares."""
    pool = read_pool([tables()], "tiny")
    pool = replace(pool, rate_rps=np.array([[500.0]]), cv=np.array([[math.sqrt(2.0)]]), clients=("7",))
    pool = replace(pool, is_weibull=np.array([[False]]))
    counts = window_counts(pool, 0, 1.0, 5)
    times, _, _ = window_arrivals(pool, gap_spreads(pool.cv, pool.is_weibull)[:, 0], 0, counts, 5)
    gaps = np.diff(times) / np.diff(times).mean()
    k = 0.5
    assert np.mean(gaps**3) == pytest.approx((k + 1) * (k + 2) / k**2, rel=0.05)


def test_even_gaps_are_even(tables: Callable[..., Path]) -> None:
    pool = read_pool([tables(rates="client,t_s,rate_rps,cv,dist\n7,0,1,0,Gamma\n")], "tiny")
    times, _, _ = window_arrivals(pool, gap_spreads(pool.cv, pool.is_weibull)[:, 0], 0, np.array([600]), 1)
    assert np.ptp(np.diff(times)) <= 1  # a second, rounded down to nanoseconds


def test_bursts_are_not_drawn_to_the_edges_of_their_window(tables: Callable[..., Path]) -> None:
    """Nearly all requests at one instant: where that is must be uniform over the window."""
    pool = read_pool([tables(rates="client,t_s,rate_rps,cv,dist\n7,0,0.1,60,Gamma\n")], "tiny")
    spreads = gap_spreads(pool.cv, pool.is_weibull)[:, 0]
    middles = np.sort(
        [float(np.median(window_arrivals(pool, spreads, 0, np.array([60]), seed)[0])) for seed in range(300)]
    )
    distance = np.abs(middles / (WINDOW_S * 1e9) - (np.arange(300) + 0.5) / 300).max()
    assert distance < 1.63 / math.sqrt(300)  # Kolmogorov–Smirnov at 1 %


def test_weibull_shapes_are_those_of_the_textbook() -> None:
    # k = 1 is exponential (cv 1); k = 2 is Rayleigh (cv² = 4/π − 1); k = 1/2 has cv² = Γ(5)/Γ(3)² − 1 = 5
    assert weibull_spread(np.array([1.0, math.sqrt(4 / math.pi - 1), math.sqrt(5.0)])) == pytest.approx(
        [1.0, 0.5, 2.0], rel=1e-9
    )


def test_log_gamma_agrees_with_the_library() -> None:
    z = np.array([1.0, 1.5, 2.0, 3.25, 17.0, 129.0])
    # the first term left out of Stirling's series is 1/(1188·9⁹) = 2e-12 at its largest
    assert log_gamma(z) == pytest.approx([math.lgamma(value) for value in z.tolist()], rel=1e-13, abs=3e-12)


def test_gammas_of_many_shapes_are_those_of_one_shape_each() -> None:
    index = np.arange(300)
    shapes = np.array([0.2, 1.0, 7.5])[index % 3]
    mixed = gammas(9, "g", index, shapes)
    for shape in (0.2, 1.0, 7.5):
        assert np.array_equal(mixed[shapes == shape], gammas(9, "g", index, shape)[shapes == shape])


def test_lengths_are_linear_between_quantiles_and_level_beyond(tables: Callable[..., Path]) -> None:
    lengths = length_tables(read_pool([tables()], "tiny"))
    tokens, answers = lengths.draw(np.zeros(50_000, np.int64), 0, np.arange(50_000), 1)
    assert (tokens.min(), tokens.max()) == (100, 400)
    for level, value in ((0.3, 150), (0.5, 200), (0.7, 300)):
        assert np.mean(tokens <= value) == pytest.approx(level, abs=0.01)
    # 0.1 · 100 + 0.4 · 150 + 0.4 · 300 + 0.1 · 400
    assert lengths.mean[0, 0, 0] == pytest.approx(230.0)
    assert tokens.mean() == pytest.approx(230.0, rel=0.01)
    assert abs(np.corrcoef(tokens, answers)[0, 1]) < 0.02


def test_a_client_without_lengths_borrows_by_how_much_the_others_send(tables: Callable[..., Path]) -> None:
    rates = "client,t_s,rate_rps,cv,dist\n1,0,3,1,Gamma\n2,0,1,1,Gamma\n3,0,5,1,Gamma\n"
    lengths = "client,t_s,field,p1,p99\n" + "".join(
        f"{client},0,{field},{tokens},{tokens}\n"
        for client, tokens in ((1, 10), (2, 50))
        for field in ("input_tokens", "output_tokens")
    )
    drawing = length_tables(read_pool([tables(rates, lengths)], "tiny"))
    tokens, answers = drawing.draw(np.full(20_000, 2), 0, np.arange(20_000), 1)
    assert np.array_equal(tokens, answers)  # both from the same donor
    assert np.mean(tokens == 10) == pytest.approx(0.75, abs=0.015)
    assert drawing.mean[0, 2, 0] == pytest.approx(0.75 * 10 + 0.25 * 50)


def test_a_period_without_lengths_takes_the_nearest_that_has_them(tables: Callable[..., Path]) -> None:
    rates = "client,t_s,rate_rps,cv,dist\n" + "".join(f"1,{t},1,1,Gamma\n" for t in range(0, 5 * 21_600, 600))
    lengths = "client,t_s,field,p1,p99\n" + "".join(
        f"1,{period * 21_600},{field},{tokens},{tokens}\n"
        for period, tokens in ((1, 10), (4, 40))
        for field in ("input_tokens", "output_tokens")
    )
    drawing = length_tables(read_pool([tables(rates, lengths)], "tiny"))
    assert drawing.mean[0, 0].tolist() == [10, 10, 10, 40, 40]


def test_pieces_come_in_order_with_clients_as_tenants(
    tables: Callable[..., Path], make_site: MakeSite, make_workload: MakeWorkload
) -> None:
    sites = [make_site("a", 100), make_site("b", 300)]
    workloads = [make_workload("short", share=9.0, max_input_tokens=200), make_workload("wide", share=1.0)]
    stream = ServegenStream(read_pool([tables()], "tiny"), ServegenSpan(0, 1200), sites, workloads, 1)
    parts = drawn(stream)
    times, tokens, workload = column(parts, "arrival_ns"), column(parts, "input_tokens"), column(parts, "workload")
    assert len(times) == 1200 + 600 + 300 == stream.forecast().requests
    assert times[0] == 0
    assert np.all(np.diff(times) >= 0)
    assert stream.tenants == ("client-7", "client-12")
    assert np.bincount(column(parts, "tenant")).tolist() == [1800, 300]
    assert np.mean(column(parts, "origin") == 1) == pytest.approx(0.75, abs=0.04)
    assert np.all(workload[tokens > 200] == 1)  # only "wide" holds them
    assert np.mean(workload[tokens <= 200] == 0) == pytest.approx(0.9, abs=0.03)


def test_a_span_that_cuts_windows_holds_the_same_requests_as_the_whole(tables: Callable[..., Path]) -> None:
    pool = read_pool([tables()], "tiny")
    whole = drawn(ServegenStream(pool, ServegenSpan(0, 1200), [], [], 1))
    cut = ServegenStream(pool, ServegenSpan(250, 600), [], [], 1)
    parts = drawn(cut)
    times = column(whole, "arrival_ns")
    # the whole trace begins at its first arrival, not at 0 s, so the cut is found by its own content
    tokens, part = column(whole, "input_tokens"), column(parts, "input_tokens")
    starts = [i for i in range(len(tokens) - len(part) + 1) if np.array_equal(tokens[i : i + len(part)], part)]
    assert len(starts) == 1
    assert np.array_equal(np.diff(times[starts[0] : starts[0] + len(part)]), np.diff(column(parts, "arrival_ns")))
    assert not cut.forecast().is_exact
    assert cut.forecast().requests == pytest.approx(len(part), rel=0.1)


def test_a_written_stream_reads_back_as_the_same_requests(tables: Callable[..., Path], tmp_path: Path) -> None:
    stream = ServegenStream(read_pool([tables()], "tiny"), ServegenSpan(0, 1200), [], [], 1)
    header = Header(gridctl_trace="v1", name=stream.name, requests=2100, tenants=stream.tenants)
    write_stream(header, stream.pieces(), tmp_path / "t.jsonl.gz")
    trace = read_trace(tmp_path / "t.jsonl.gz")
    parts = drawn(stream)
    for name in ("arrival_ns", "input_tokens", "output_tokens", "tenant"):
        assert np.array_equal(getattr(trace, name), column(parts, name)), name
    assert np.all(trace.origin == UNSAID)
    write_trace(trace, tmp_path / "again.jsonl.gz")
    assert (tmp_path / "again.jsonl.gz").read_bytes() == (tmp_path / "t.jsonl.gz").read_bytes()


DIGEST = """
import hashlib, sys
from gridctl.traces.servegen_pool import read_pool
from gridctl.traces.servegen_stream import ServegenSpan, ServegenStream
text = hashlib.sha256()
for part in ServegenStream(read_pool([sys.argv[1]], "tiny"), ServegenSpan(0, 1200), [], [], int(sys.argv[2])).pieces():
    for name in ("arrival_ns", "input_tokens", "output_tokens", "tenant"):
        text.update(getattr(part, name).tobytes())
print(text.hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_another_seed_others(
    tables: Callable[..., Path],
) -> None:
    folder = tables()

    def digest(seed: int, hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, str(folder), str(seed)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert digest(1, "0") == digest(1, "77")
    assert digest(1, "0") != digest(2, "0")


def test_small_pieces_hold_what_large_ones_hold(tables: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = read_pool([tables()], "tiny")
    large = column(drawn(ServegenStream(pool, ServegenSpan(0, 1200), [], [], 1)), "input_tokens")
    monkeypatch.setattr("gridctl.traces.servegen_stream.PIECE_REQUESTS", 100)
    monkeypatch.setattr("gridctl.traces.servegen_arrivals._ROWS_AT_ONCE", 64)
    parts = drawn(ServegenStream(pool, ServegenSpan(0, 1200), [], [], 1))
    assert max(len(part) for part in parts) == 100
    assert np.array_equal(column(parts, "input_tokens"), large)


@pytest.mark.parametrize(
    ("rates", "lengths", "says"),
    [
        (RATES.replace("0.5,1.0,Gamma", "-0.5,1.0,Gamma"), LENGTHS, "rate_rps is '-0.5'"),
        (RATES.replace("2.0,1.0", "nan,1.0"), LENGTHS, "rate_rps is 'nan'"),
        (RATES.replace("2.0,1.0", "2e9,1.0"), LENGTHS, "rate_rps is '2e9'"),
        (RATES.replace("2.0,1.0", ",1.0"), LENGTHS, "rate_rps is ''"),
        (RATES.replace("7,600,", "7,650,"), LENGTHS, "expected a multiple of 600"),
        (RATES.replace("7,600,", "7,0,"), LENGTHS, "appear twice"),
        (RATES.replace("Weibull", "Weibul"), LENGTHS, "dist is 'Weibul'"),
        (RATES.replace("1.0,3.0,Weibull", "1.0,-3,Weibull"), LENGTHS, "cv is '-3'"),
        (RATES.replace("rate_rps", "rate"), LENGTHS, "no column 'rate_rps'"),
        (RATES + "12,600,0.5\n", LENGTHS, "3 cells where the header has 7"),
        (RATES.splitlines()[0] + "\n", LENGTHS, "no row"),
        (RATES.replace("12,0", "a b,0"), LENGTHS, "client is 'a b'"),
        (RATES, LENGTHS.replace("100,200,400", "100,90,400"), "not in order"),
        (RATES, LENGTHS.replace("100,200,400", "-1,200,400"), "p10 is '-1'"),
        (RATES, LENGTHS.rsplit("7,0,output", 1)[0], "has input_tokens here and no output_tokens"),
        (RATES, LENGTHS.replace("7,0,", "8,0,"), "no client of the rates has lengths"),
        (RATES, LENGTHS.replace("p10,p50,p90", "p90,p50,p10"), "quantiles"),
        (RATES, LENGTHS.replace("7,0,", "7,600,"), "expected a multiple of 21600"),
    ],
)
def test_a_wrong_row_is_an_error_that_says_where(
    tables: Callable[..., Path], rates: str, lengths: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_pool([tables(rates, lengths)], "tiny")
    assert says in caught.value.what
    assert "servegen_tiny_" in str(caught.value.where)
    assert caught.value.fix


def test_a_pool_too_large_to_hold_is_refused(tables: Callable[..., Path]) -> None:
    rates = "client,t_s,rate_rps,cv,dist\n7,31536000,1,1,Gamma\n"
    rates += "".join(f"{client},0,1,1,Gamma\n" for client in range(1000))
    with pytest.raises(InputError, match="too much to hold"):
        read_pool([tables(rates.replace("7,0,1,1,Gamma\n", "", 1))], "tiny")
    crowd = "client,t_s,rate_rps,cv,dist\n" + "".join(f"{client},0,1,1,Gamma\n" for client in range(4097))
    with pytest.raises(InputError, match="at most 4,096"):
        read_pool([tables(crowd)], "tiny")


def test_a_wrong_row_names_its_line(tables: Callable[..., Path]) -> None:
    with pytest.raises(InputError) as caught:
        read_pool([tables(RATES.replace("12,0,0.5", "12,0,-0.5"))], "tiny")
    assert str(caught.value.where).endswith("servegen_tiny_rates.csv:4")


def test_folders_without_the_pool_say_what_is_there(tables: Callable[..., Path], tmp_path: Path) -> None:
    folder = tables()
    with pytest.raises(NotFoundError, match="only tiny"):
        read_pool([folder], "tyni")
    (folder / "servegen_tiny_lengths.csv").unlink()
    with pytest.raises(NotFoundError, match="has rates here and no lengths"):
        read_pool([folder], "tiny")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotFoundError, match="no ServeGen tables"):
        read_pool([empty])
    with pytest.raises(NotFoundError, match="no such folder"):
        read_pool([tmp_path / "gone"])
    with pytest.raises(UsageError, match="both files are tables of rates"):
        read_pool([folder / "servegen_tiny_rates.csv"] * 2)
    (folder / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="neither rates"):
        read_pool([folder / "servegen_tiny_rates.csv", folder / "x.csv"])


@pytest.mark.parametrize(
    "span",
    [
        ServegenSpan(0, 1200, 0.0),
        ServegenSpan(0, 1200, 1.5),
        ServegenSpan(0, 1200, -0.1),
        ServegenSpan(0, 1200, math.nan),
        ServegenSpan(0, 0),
        ServegenSpan(1200, 600),
        ServegenSpan(-1, 600),
        ServegenSpan(600, 1200),
        ServegenSpan(0, math.nan),
    ],
)
def test_spans_outside_the_pool_and_fractions_outside_0_to_1_are_refused(
    tables: Callable[..., Path], span: ServegenSpan
) -> None:
    with pytest.raises(UsageError) as caught:
        ServegenStream(read_pool([tables()], "tiny"), span, [], [], 1)
    assert caught.value.fix


def test_a_span_without_requests_is_an_error_and_leaves_no_file(tables: Callable[..., Path], tmp_path: Path) -> None:
    stream = ServegenStream(read_pool([tables()], "tiny"), ServegenSpan(0, 1200, 1e-9), [], [], 1)
    with pytest.raises(GridctlError, match="no request"):
        write_stream(Header(gridctl_trace="v1"), stream.pieces(), tmp_path / "t.jsonl")
    assert not (tmp_path / "t.jsonl").exists()


def test_a_mean_day_of_the_small_pool_is_a_hundred_million_requests(small: ServegenPool) -> None:
    assert len(small.clients) == 40
    assert small.duration_s == 14 * 86_400
    assert small.rate_rps.sum() * WINDOW_S / 14 == pytest.approx(101.5e6, rel=0.01)  # 1.42 thousand million in all


def test_the_real_windows_keep_their_rates(small: ServegenPool) -> None:
    fraction, first = 0.02, 6 * 144
    stream = ServegenStream(small, ServegenSpan(6 * 86_400, 7200, fraction), [], [], 3)
    parts = drawn(stream)
    # counted by window and client; the first arrival is within the first window
    offset = stream.forecast().requests
    assert offset == sum(len(part) for part in parts)
    for window in range(12):
        expected = small.rate_rps[:, first + window] * WINDOW_S * fraction
        counts = window_counts(small, first + window, fraction, 3)
        assert np.all(np.abs(counts - expected) < 1.0)
    total = small.rate_rps[:, first : first + 12].sum() * WINDOW_S * fraction
    assert offset == pytest.approx(total, abs=12 * 40)


def test_the_real_gaps_keep_their_burstiness(small: ServegenPool) -> None:
    """Every client-window with over 20,000 requests and moderate burstiness, for two hours of the sixth day."""
    checked = 0
    for window in range(5 * 144 + 60, 5 * 144 + 64):
        counts = window_counts(small, window, 1.0, 1)
        counts[(counts < 20_000) | (small.cv[:, window] > 3.0)] = 0
        spreads = gap_spreads(small.cv[:, window], small.is_weibull[:, window])
        times, client, _ = window_arrivals(small, spreads, window, counts, 1)
        for number in np.flatnonzero(counts):
            assert gap_cv(times[client == number]) == pytest.approx(small.cv[number, window], rel=0.1)
            checked += 1
    assert checked >= 8


def test_the_real_lengths_keep_their_quantiles(small: ServegenPool) -> None:
    """A client's p50 and p95 over a period, against the table's."""
    client = small.clients.index("17")
    lengths = length_tables(small)
    for period in (0, 20):
        assert small.is_measured[client, period]
        tokens = lengths.draw(np.full(40_000, client), period, np.arange(40_000), 2)
        for field in (0, 1):
            for level in (0.1, 0.5, 0.9, 0.95):
                wanted = small.quantile[field, client, period][np.searchsorted(small.probability, level - 1e-9)]
                below, through = np.mean(tokens[field] < wanted - 0.5), np.mean(tokens[field] <= wanted + 0.5)
                assert below - 0.01 <= level <= through + 0.01


def test_mean_tokens_are_the_table_s_to_half_a_per_cent(small: ServegenPool, real_traces: Path) -> None:
    """The `mean` column was taken from all requests; interpolated quantiles must give it back, weighed by requests."""
    import csv
    import gzip

    means = length_tables(small).mean
    number = {client: index for index, client in enumerate(small.clients)}
    rates = small.rate_rps.reshape(len(small.clients), -1, 36).sum(axis=2)
    sums = {"input_tokens": np.zeros(2), "output_tokens": np.zeros(2)}
    with gzip.open(real_traces / "servegen_m-small_lengths.csv.gz", "rt") as text:
        for row in csv.DictReader(text):
            place, period = number[row["client"]], int(row["t_s"]) // 21_600
            field = 0 if row["field"] == "input_tokens" else 1
            sums[row["field"]] += rates[place, period] * np.array([means[field, place, period], float(row["mean"])])
    for ours, theirs in sums.values():
        assert ours == pytest.approx(theirs, rel=0.005)


def test_a_longer_span_of_the_real_pool_begins_with_the_same_requests(small: ServegenPool) -> None:
    short = drawn(ServegenStream(small, ServegenSpan(3600, 1200, 0.01), [], [], 4))
    longer = drawn(ServegenStream(small, ServegenSpan(3600, 1800, 0.01), [], [], 4))
    count = sum(len(part) for part in short)
    for name in ("arrival_ns", "input_tokens", "output_tokens", "tenant"):
        one = hashlib.sha256(column(short, name).tobytes()).hexdigest()
        assert one == hashlib.sha256(column(longer, name)[:count].tobytes()).hexdigest()
