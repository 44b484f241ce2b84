"""The scraper against loopback engines that answer as told: reports, silence, lies, restarts; and its HTTP client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gridctl.signals.board import Board, Scraped
from gridctl.signals.fetch import Fetched, Fetcher
from gridctl.signals.pace import Pace
from gridctl.signals.report import MOST_BYTES, Report
from gridctl.signals.rows import FAILING, FRESH, NEVER, NOT_REPORTED, STALE, UNSUPPORTED
from gridctl.signals.scrape import Scraper, Target, scraped_of

MS = 1_000_000
QUICK = Pace(
    busy_ns=10 * MS,
    usual_ns=20 * MS,
    idle_ns=60 * MS,
    unsupported_ns=200 * MS,
    quiet_after_ns=10**12,
    stale_periods=30,  # more than a busy machine is late by
)
DEADLINE_S = 8.0


class Engine:
    """A loopback server that answers every request with the bytes that `answer` gives for its path."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.closes_after = 1 << 30
        self.takes_s = 0.0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answered = 0
        try:
            while answered < self.closes_after:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                path = head.split(b" ", 2)[1].decode()
                self.asked.append(path)
                await asyncio.sleep(self.takes_s)
                writer.write(self.answer(path))
                await writer.drain()
                answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(engine: Engine) -> AsyncIterator[Engine]:
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.close()


def ok(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def vllm(running: int, waiting: int = 0, hits: int = 0, lookups: int = 0, share: float = 0.5) -> bytes:
    return ok(
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\nvllm:kv_cache_usage_perc {share}\n"
        f"vllm:prefix_cache_hits_total {hits}\nvllm:prefix_cache_queries_total {lookups}\n".encode()
    )


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def scraping(board: Board, *targets: Target, pace: Pace = QUICK) -> AsyncIterator[Scraper]:
    scraper = Scraper(board, time.monotonic_ns, pace)
    scraper.watch(targets)
    task = asyncio.create_task(scraper.run())
    try:
        yield scraper
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def run(test: Callable[[], Awaitable[None]], new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(test(), 20))  # type: ignore[arg-type]


# ── the scraper ──


def test_what_an_engine_reports_is_on_the_board(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: vllm(3, 2, 640, 1000))) as engine,
            scraping(board, Target(2, engine.url, kv_capacity_tokens=8000, generation=7)) as scraper,
        ):
            before = time.monotonic_ns()
            await until(lambda: board.scraped(2).telemetry_state == FRESH)
            row = board.scraped(2)
            assert before - 10**9 < row.scrape_ns <= time.monotonic_ns()
            assert row._replace(scrape_ns=0, period_ns=0) == Scraped(0, 0, 3, 2, 4000, 8000, 640_000, FRESH, -1, -1)
            assert row.period_ns == QUICK.usual_ns
            assert board.engines[2].generation == 7
            assert scraper.note(2).dialect == "vllm"
            assert scraper.note(2).cause == ""
            assert scraper.note(2).state == "fresh"
            assert board.scraped(1) == Scraped()
            assert engine.connections == 1

    run(test)


def test_an_engine_without_a_report_is_a_state_and_not_a_zero(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: ok(b"no such page", "404 Not Found"))) as engine,
            scraping(board, Target(0, engine.url)) as scraper,
        ):
            await until(lambda: board.scraped(0).telemetry_state == UNSUPPORTED)
            assert (board.scraped(0).running, board.scraped(0).kv_used_tokens) == (NOT_REPORTED, NOT_REPORTED)
            assert set(engine.asked) == {"/metrics", "/v1/metrics"}
            assert scraper.note(0).cause == "no-report"
            assert board.engines[0].scrape_errors == 0

    run(test)


def test_a_report_under_the_second_path_is_found_and_then_asked_for_there(board: Board) -> None:
    def answer(path: str) -> bytes:
        return vllm(1) if path == "/v1/metrics" else ok(b"", "404 Not Found")

    async def test() -> None:
        async with listening(Engine(answer)) as engine, scraping(board, Target(0, engine.url + "/")):
            await until(lambda: len(engine.asked) >= 6)
            assert engine.asked[:2] == ["/metrics", "/v1/metrics"]
            assert set(engine.asked[2:]) == {"/v1/metrics"}

    run(test)


def test_an_engine_that_dies_grows_stale_then_failing_and_its_last_numbers_remain(board: Board) -> None:
    async def test() -> None:
        states = []
        async with scraping(board) as scraper:
            async with listening(Engine(lambda path: vllm(5))) as engine:
                engine.closes_after = 1
                scraper.watch([Target(0, engine.url)])
                await until(lambda: board.scraped(0).telemetry_state == FRESH)

            def seen() -> bool:
                state = board.scraped(0).telemetry_state
                if not states or states[-1] != state:
                    states.append(state)
                return state == FAILING

            await until(seen)
            assert states in ([FRESH, STALE, FAILING], [STALE, FAILING], [FRESH, FAILING])
            assert board.scraped(0).running == 5
            assert scraper.note(0).cause == "refused"
            assert scraper.note(0).failures >= 3
            assert board.engines[0].scrape_errors >= 3

    run(test)


def test_an_engine_that_comes_back_is_fresh_at_once(board: Board) -> None:
    answers = [b"HTTP/1.1 500 oh\r\ncontent-length: 0\r\n\r\n"] * 4

    async def test() -> None:
        async with (
            listening(Engine(lambda path: answers.pop() if answers else vllm(1))) as engine,
            scraping(board, Target(0, engine.url)) as scraper,
        ):
            await until(lambda: scraper.note(0).cause == "status-500")
            await until(lambda: board.scraped(0).telemetry_state == FRESH)
            assert scraper.note(0).failures == 0

    run(test)


def test_requests_in_flight_are_followed_closely_and_an_idle_engine_is_left_alone(board: Board) -> None:
    pace = QUICK._replace(usual_ns=5_000 * MS, idle_ns=5_000 * MS, busy_ns=10 * MS, jitter=0.0)

    async def test() -> None:
        async with listening(Engine(lambda path: vllm(0))) as engine, scraping(board, Target(3, engine.url), pace=pace):
            await until(lambda: len(engine.asked) == 1)
            board.slots[1, 3].in_flight = 1
            await until(lambda: len(engine.asked) >= 5)
            await until(lambda: board.scraped(3).period_ns == 10 * MS)
            board.slots[1, 3].in_flight = 0
            await until(lambda: board.scraped(3).period_ns == 5_000 * MS)
            asked = len(engine.asked)
            await asyncio.sleep(0)
            assert len(engine.asked) == asked

    run(test)


def test_a_row_given_up_forgets_and_another_engine_in_it_starts_anew(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: vllm(3))) as first,
            listening(Engine(lambda path: ok(b"", "404 Not Found"))) as second,
            scraping(board, Target(0, first.url), Target(1, first.url)) as scraper,
        ):
            await until(lambda: board.scraped(0).running == 3 and board.scraped(1).running == 3)
            scraper.watch([Target(0, second.url)])
            assert board.scraped(1) == Scraped()
            assert board.scraped(0).telemetry_state == NEVER
            await until(lambda: board.scraped(0).telemetry_state == UNSUPPORTED)
            assert board.scraped(1) == Scraped()
            assert scraper.note(1).state == "never"

    run(test)


def test_a_new_plan_with_the_same_engine_goes_on_with_what_is_known_of_it(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: vllm(3))) as engine,
            scraping(board, Target(0, engine.url, generation=1)) as scraper,
        ):
            await until(lambda: board.scraped(0).running == 3)
            scraper.watch([Target(0, engine.url, generation=2)])
            assert board.scraped(0).running == 3
            assert board.engines[0].generation == 2
            assert engine.connections == 1

    run(test)


def test_an_engine_that_answers_slowly_is_not_stale_for_it(board: Board) -> None:
    """It takes 80 ms to answer and is to be asked every 10 ms: its news is as new as it can be."""
    pace = QUICK._replace(busy_ns=10 * MS, usual_ns=10 * MS, stale_periods=4)

    async def test() -> None:
        engine = Engine(lambda path: vllm(3))
        engine.takes_s = 0.08
        states = set()
        async with listening(engine), scraping(board, Target(0, engine.url), pace=pace):
            await until(lambda: board.scraped(0).telemetry_state == FRESH)
            began = len(engine.asked)

            def seen() -> bool:
                states.add(board.scraped(0).telemetry_state)
                return len(engine.asked) >= began + 6

            await until(seen)
        assert states == {FRESH}

    run(test)


def test_one_engine_that_hangs_delays_no_other(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: b"")) as silent,
            listening(Engine(lambda path: vllm(1))) as engine,
            scraping(board, Target(0, silent.url), Target(1, engine.url), pace=QUICK._replace(timeout_ns=10**11)),
        ):
            await until(lambda: len(silent.asked) == 1)
            before = len(engine.asked)
            await until(lambda: len(engine.asked) >= before + 5)
            assert len(silent.asked) == 1
            assert board.scraped(1).telemetry_state == FRESH

    run(test)


def test_an_engine_that_never_answers_fails_after_its_time(board: Board) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: b"")) as silent,
            scraping(board, Target(0, silent.url), pace=QUICK._replace(timeout_ns=50 * MS)) as scraper,
        ):
            await until(lambda: board.scraped(0).telemetry_state == FAILING)
            assert scraper.note(0).cause == "timeout"
            assert silent.connections >= 3

    run(test)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"garbage\r\n\r\n", "not-http"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "not-http"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", "unauthorized"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status-503"),
        (ok(b"vllm:num_requests_running NaN\nvllm:num_requests_waiting -3\n"), "not-finite"),
        (ok(b"x" * (MOST_BYTES + (1 << 20))), "too-large"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "too-large"),
    ],
    ids=["garbage", "length", "redirect", "401", "503", "lies", "huge", "endless head"],
)
def test_every_bad_answer_has_its_word(board: Board, answer: bytes, cause: str) -> None:
    async def test() -> None:
        async with (
            listening(Engine(lambda path: answer)) as engine,
            scraping(board, Target(0, engine.url)) as scraper,
        ):
            await until(lambda: scraper.note(0).cause == cause)
            await until(lambda: board.scraped(0).telemetry_state == FAILING)
            assert board.scraped(0).running == NOT_REPORTED

    run(test)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://user:pw@127.0.0.1:1", "http://127.0.0.1:99999", "http://a b/", "http://h/?q"],
)
def test_a_url_that_is_none_fails_without_a_connection(board: Board, url: str) -> None:
    async def test() -> None:
        async with scraping(board, Target(0, url)) as scraper:
            await until(lambda: scraper.note(0).cause != "")
            assert scraper.note(0).cause == "bad-url"

    run(test)


# ── rows of reports ──


def test_prefix_hits_are_those_since_the_last_report() -> None:
    target = Target(0, "")
    first = Report("vllm", prefix_hits=100, prefix_lookups=1000)
    row = scraped_of(first, Report(), Scraped(), target, 1)
    assert row.prefix_hit_ppm == 100_000
    second = Report("vllm", prefix_hits=150, prefix_lookups=1100)
    row = scraped_of(second, first, row, target, 2)
    assert row.prefix_hit_ppm == 500_000
    row = scraped_of(second, second, row, target, 3)
    assert row.prefix_hit_ppm == 500_000
    restarted = Report("vllm", prefix_hits=1, prefix_lookups=4)
    assert scraped_of(restarted, second, row, target, 4).prefix_hit_ppm == 250_000


def test_more_hits_than_lookups_are_all_hits() -> None:
    lie = Report("vllm", prefix_hits=10, prefix_lookups=4)
    assert scraped_of(lie, Report(), Scraped(), Target(0, ""), 1).prefix_hit_ppm == 1_000_000


def test_a_share_of_kv_becomes_tokens_by_what_the_engine_or_the_manifest_says_of_its_size() -> None:
    declared = Target(0, "", kv_capacity_tokens=1000)
    share = Report("vllm", kv_share=0.25)
    assert scraped_of(share, Report(), Scraped(), declared, 1)[4:6] == (250, 1000)
    assert scraped_of(share._replace(kv_capacity_tokens=400), Report(), Scraped(), declared, 1)[4:6] == (100, 400)
    assert scraped_of(share, Report(), Scraped(), Target(0, ""), 1)[4:6] == (NOT_REPORTED, NOT_REPORTED)
    assert scraped_of(Report("llamacpp", kv_used_tokens=7), Report(), Scraped(), declared, 1)[4:6] == (7, 1000)


# ── the client ──

Loop = Callable[[], asyncio.AbstractEventLoop]


def _loops() -> dict[str, Loop]:
    try:
        import uvloop
    except ImportError:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=list(_loops()))
def new_loop(request: pytest.FixtureRequest) -> Loop:
    return _loops()[request.param]


def fetched(
    answer: bytes, new_loop: Loop, *, times: int = 1, closes_after: int = 1 << 30, **options: str
) -> tuple[list[Fetched], Engine]:
    engine = Engine(lambda path: answer)
    engine.closes_after = closes_after
    results: list[Fetched] = []

    async def test() -> None:
        async with listening(engine):
            fetcher = Fetcher(engine.url, **options)
            for _ in range(times):
                results.append(await fetcher.get("/metrics", 5.0))
                await asyncio.sleep(0)
            fetcher.close()

    run(test, new_loop)
    return results, engine


def test_a_connection_is_kept_and_the_credential_goes_with_every_question(new_loop: Loop) -> None:
    results, engine = fetched(ok(b"x"), new_loop, times=5, authorization="Bearer s3cret")
    assert results == [Fetched(200, b"x")] * 5
    assert engine.connections == 1
    assert all(b"\r\nauthorization: Bearer s3cret\r\n" in head for head in engine.heads)


def test_a_connection_closed_between_two_questions_is_opened_again(new_loop: Loop) -> None:
    results, engine = fetched(ok(b"x"), new_loop, times=3, closes_after=1)
    assert results == [Fetched(200, b"x")] * 3
    assert engine.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 5\r\n\r\nabcde",
    ],
    ids=["chunks", "early hints", "close"],
)
def test_ways_to_answer(answer: bytes, new_loop: Loop) -> None:
    assert fetched(answer, new_loop, times=2)[0] == [Fetched(200, b"abcde")] * 2


def test_a_body_that_ends_with_the_connection_is_whole(new_loop: Loop) -> None:
    assert fetched(b"HTTP/1.0 200 OK\r\n\r\nabcde", new_loop, closes_after=1)[0] == [Fetched(200, b"abcde")]


def test_a_body_cut_short_is_no_body(new_loop: Loop) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nabcde"
    assert fetched(answer, new_loop, closes_after=1)[0] == [Fetched(failure="reset")]


def test_an_answer_cut_at_any_byte_is_whole_or_a_reset(new_loop: Loop) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    cuts = iter(range(len(answer) + 1))
    engine = Engine(lambda path: answer[: next(cuts)])
    engine.closes_after = 1
    results: list[Fetched] = []

    async def test() -> None:
        async with listening(engine):
            results.extend([await Fetcher(engine.url).get("/metrics", 5.0) for _ in range(len(answer) + 1)])

    run(test, new_loop)
    assert results == [Fetched(failure="reset")] * len(answer) + [Fetched(200, b"abcde")]


def test_a_credential_cannot_smuggle_a_header(new_loop: Loop) -> None:
    results, engine = fetched(ok(b"x"), new_loop, authorization="Bearer x\r\nhost: evil")
    assert results == [Fetched(failure="bad-url")]
    assert engine.connections == 0


def test_a_tls_engine_that_speaks_no_tls_fails_by_name(new_loop: Loop) -> None:
    async def test() -> None:
        async with listening(Engine(lambda path: ok(b"x"))) as engine:
            engine.closes_after = 0
            result = await Fetcher(engine.url.replace("http", "https")).get("/metrics", 5.0)
            assert result.failure in ("tls", "reset")

    run(test, new_loop)
