"""How gridctl's gateway compares with SGLang's router and LiteLLM's proxy, in one run on one machine.

    python tests/bench/gateway_vs_peers.py --peers ~/peers/bin/python [--quick] [--sides gridctl,sglang,litellm]
                                           [--compiled ~/compiled/bin/python]
    python tests/bench/gateway_vs_peers.py --idle 10000
    python tests/bench/gateway_vs_peers.py --slow-reader

Installs nothing. The peers run where `--peers` (else PEERS_PYTHON) can import them:

    python -m venv ~/peers && ~/peers/bin/pip install sglang-router 'litellm[proxy]'

and gridctl with its data path compiled (`--compiled`) where it was installed so:

    python -m venv ~/compiled && GRIDCTL_COMPILED=1 ~/compiled/bin/pip install .

Each gateway is pinned to one core, mock engines and load to another, both ours, in C (`loopback/`), compiled here. All
gateways stand in front of the same eight mock engines; gridctl's are eight clusters at eight sites, with routing,
metrics, SLA accounting and recording on. Sides take turns, round by round: a slow minute of the machine hits all.

A step that a side cannot finish ends after its time and says how far it came. `added` is a side's figure minus that of
the load straight at the engines in the same round. Requests/s depend on what else the machine does; processor
microseconds a request (all processes of a side, user and system, from /proc) hardly do. "bare" is the load without a
gateway: what limits the others.

`burst` starts 256 streams in one instant, `spread` over the time that a stream takes; one chunk every 10 ms a stream.
`flood` asks for a chunk every millisecond of each of 256 streams, more than any side can pass on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import selectors
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from loopback.sides import MODEL, Side, start_gridctl, start_litellm, start_sglang
from loopback.tools import BenchError, Engines, compile_programs, load

GATEWAY_CORE, LOAD_CORE = 0, 1
ENGINES = 8
STREAMS, CHUNKS, EVERY_US = 256, 64, 10_000
STREAM_S = CHUNKS * EVERY_US / 1e6
MEMORY_REQUESTS = 100_000
SLOW_READER_BYTES = 1 << 30
SLOW_READER_BYTES_PER_S = 24 << 20
BARE = "bare"
POLICIES = ("cache_aware", "round_robin")  # of SGLang's router: its default, and the one that decides least

Figures = dict[str, float]


def main() -> int:
    arguments = _arguments()
    # Ended from outside it still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if len(os.sched_getaffinity(0)) < 2:
        print("needs two cores: one for the gateway, one for load and engines", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        compile_programs(folder)
        engines = stack.enter_context(Engines.running(folder, ENGINES, LOAD_CORE))
        sides = _start(stack, folder, engines, arguments)
        if arguments.idle:
            return _report_idle(sides, arguments.idle)
        if arguments.slow_reader:
            return _report_slow_reader(sides, engines)
        started = time.monotonic()
        rounds = _rounds(folder, sides, engines, arguments)
        once = {side.name: _once(folder, side, engines, arguments.quick) for side in sides if side.process}
        _report(sides, rounds, once, time.monotonic() - started)
        if arguments.json:
            arguments.json.write_text(json.dumps({"rounds": rounds, "once": once}, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gridctl's gateway beside SGLang's router and LiteLLM's proxy.")
    parser.add_argument("--peers", default=os.environ.get("PEERS_PYTHON"), help="a Python with the peers installed")
    parser.add_argument("--compiled", help="a Python that has gridctl installed with GRIDCTL_COMPILED=1: one more side")
    parser.add_argument("--sides", help="which gateways, with commas: gridctl,sglang,litellm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, shorter steps")
    parser.add_argument("--idle", type=int, metavar="N", help="hold N open idle connections instead")
    parser.add_argument("--slow-reader", action="store_true", help="1 GiB through one slow reader instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file, too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    if arguments.sides is None:
        alone = arguments.idle or arguments.slow_reader or not arguments.peers
        arguments.sides = "gridctl" if alone else "gridctl,sglang,litellm"
    arguments.sides = arguments.sides.split(",")
    unknown = set(arguments.sides) - {"gridctl", "sglang", "litellm"}
    if unknown or (not arguments.peers and set(arguments.sides) != {"gridctl"}):
        parser.error(f"--peers is needed for {', '.join(arguments.sides)}" if not unknown else f"no side {unknown}")
    return arguments


def _start(stack: contextlib.ExitStack, folder: Path, engines: Engines, arguments: argparse.Namespace) -> list[Side]:
    """Every side, answering. The bare load comes first."""
    starts: list[Callable[[], Side]] = []
    if "gridctl" in arguments.sides:
        starts.append(partial(start_gridctl, folder, engines, GATEWAY_CORE))
    if arguments.compiled:
        starts.append(partial(start_gridctl, folder, engines, GATEWAY_CORE, arguments.compiled))
    if "sglang" in arguments.sides:
        starts += [partial(start_sglang, folder, engines, GATEWAY_CORE, arguments.peers, policy) for policy in POLICIES]
    if "litellm" in arguments.sides:
        starts.append(partial(start_litellm, folder, engines, GATEWAY_CORE, arguments.peers))
    sides = [Side(BARE, engines.ports[0], None)]
    for start in starts:
        before = time.monotonic()
        side = start()
        assert side.process is not None
        stack.callback(side.process.stop)
        sides.append(side)
        print(f"{side.name} answers after {time.monotonic() - before:.1f} s", file=sys.stderr)
    return sides


def _rounds(
    folder: Path, sides: list[Side], engines: Engines, arguments: argparse.Namespace
) -> list[dict[str, Figures]]:
    rounds = []
    for number in range(arguments.rounds):
        turn = sides[number % len(sides) :] + sides[: number % len(sides)]  # nobody is always first
        rounds.append({side.name: _turn(folder, side, engines, arguments.quick) for side in turn})
        print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
    return rounds


def _turn(folder: Path, side: Side, engines: Engines, quick: bool) -> Figures:
    """All repeated figures of one side."""
    seconds = 3.0 if side.is_slow else 1.0 if quick else 2.5

    def run(**options: object) -> dict[str, Any]:
        return load(folder, LOAD_CORE, side.port, model=MODEL, bearer=side.bearer, **options)

    run(connections=64, seconds=0.3, warmup=0)
    figures: Figures = {"errors": 0}
    with _cpu(side) as spent:
        many = run(connections=64, seconds=seconds, warmup=0)
    one = run(connections=1, seconds=seconds / 2, warmup=0.1)
    figures["requests_per_s"] = many["requests_per_s"]
    figures["cpu_us_per_request"] = _each(spent[0], many["requests"])
    figures["p50_64_us"] = many["latency_us"].get("p50", float("nan"))
    figures["p50_1_us"] = one["latency_us"].get("p50", float("nan"))
    paced = f"chunks-{CHUNKS} every-{EVERY_US}"
    warmup = 0 if side.is_slow else 1.2 * STREAM_S
    burst = run(connections=STREAMS, stream=1, seconds=seconds, warmup=0, prompt=paced)
    _wait_until_idle(engines)
    with _cpu(side) as spent:
        spread = run(connections=STREAMS, stream=1, seconds=seconds, warmup=warmup, ramp_s=STREAM_S, prompt=paced)
    _wait_until_idle(engines)
    flood = run(connections=STREAMS, stream=1, seconds=seconds, warmup=0.5, prompt=f"chunks-{CHUNKS} every-1000")
    figures["burst_ttft_us"] = burst["ttft_us"].get("p50", float("nan"))
    figures["spread_ttft_us"] = spread["ttft_us"].get("p50", float("nan"))
    figures["spread_chunks_per_s"] = spread["events_per_s"]
    figures["cpu_us_per_chunk"] = _each(spent[0], spread["events_with_warmup"])
    figures["flood_chunks_per_s"] = flood["events_per_s"]
    figures["errors"] = float(sum(result["errors"] for result in (many, one, burst, spread, flood)))
    _wait_until_idle(engines)
    return figures


def _each(seconds: float, count: int) -> float:
    """Microseconds each; not a number where nothing was finished."""
    return 1e6 * seconds / count if count else float("nan")


@contextlib.contextmanager
def _cpu(side: Side) -> Iterator[list[float]]:
    """Processor seconds of a side while the block runs, in a list of one."""
    spent = [0.0]
    before = side.process.cpu_s() if side.process else 0.0
    yield spent
    if side.process:
        spent[0] = side.process.cpu_s() - before


def _wait_until_idle(engines: Engines, seconds: float = 4.0) -> None:
    """Until no engine serves anything: a side that does not cancel leaves the next one a busy engine."""
    deadline = time.monotonic() + seconds
    while engines.requests()["running"] and time.monotonic() < deadline:
        time.sleep(0.02)


def _once(folder: Path, side: Side, engines: Engines, quick: bool) -> Figures:
    """Memory over many requests, and how fast the engine learns that a client left."""
    assert side.process is not None
    figures: Figures = {}
    load(folder, LOAD_CORE, side.port, model=MODEL, bearer=side.bearer, connections=64, requests=5000, seconds=4)
    figures["rss_before"] = side.process.rss_bytes()
    limit_s = 5 if quick else 25
    done = load(
        folder, LOAD_CORE, side.port, model=MODEL, bearer=side.bearer, connections=64, requests=MEMORY_REQUESTS,
        seconds=limit_s, warmup=0,
    )  # fmt: skip
    figures["rss_after"] = side.process.rss_bytes()
    figures["rss_requests"] = done["requests"]
    tries = 5 if quick else 20
    for window in ("whole", "stream"):
        delays = _abort_delays(side, engines, tries, window)
        figures[f"abort_{window}_seen"] = len(delays) / tries
        if delays:
            figures[f"abort_{window}_ms"] = statistics.median(delays)
            figures[f"abort_{window}_worst_ms"] = max(delays)
    return figures


def _abort_delays(side: Side, engines: Engines, tries: int, window: str) -> list[float]:
    """Milliseconds from a client's close to the engine's seeing its own connection closed, of the times it did."""
    delays: list[float] = []
    for number in range(tries):
        if number >= 3 and not delays:
            break  # it does not cancel: three waits say so
        prompt = f"hold-1500 {number}" if window == "whole" else f"chunks-150 every-10000 {number}"
        message: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 16}
        body = json.dumps(message | ({"stream": True} if window == "stream" else {})).encode()
        _wait_until_idle(engines)
        known = engines.requests()["aborts"]
        with socket.create_connection(("127.0.0.1", side.port), timeout=5) as client:
            client.sendall(side.head(body))
            if window == "stream":
                client.recv(65536)
            deadline = time.monotonic() + 2
            while not engines.requests()["running"] and time.monotonic() < deadline:
                pass
            left_ns = time.monotonic_ns()
        while time.monotonic_ns() - left_ns < 1_200_000_000:
            seen = engines.requests()
            if seen["aborts"] > known:
                delays.append((seen["last_abort_ns"] - left_ns) / 1e6)
                break
            time.sleep(0.001)
    return delays


def _report_idle(sides: list[Side], count: int) -> int:
    """Open idle connections: what each costs, and whether requests are still answered beside them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if count + 100 > most:
        raise BenchError(f"{count:,} connections need as many open files: {most:,} are allowed here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for side in sides:
        if side.process is None:
            continue
        before = side.process.rss_bytes()
        opened: list[socket.socket] = []
        try:
            while len(opened) < count:
                opened.append(socket.create_connection(("127.0.0.1", side.port), timeout=10))
                opened[-1].sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                opened[-1].recv(4096)  # one that never sent a request is not idle but late
            side.wait_until_it_answers(30)
            grown = side.process.rss_bytes() - before
            cpu = side.process.cpu_s()
            time.sleep(3)
            cpu = side.process.cpu_s() - cpu
            closed = _closed_by_peer(opened)
        except OSError as error:
            print(f"{side.name}: {len(opened):,} connections, then {error}")
            continue
        finally:
            for connection in opened:
                connection.close()
        print(
            f"{side.name}: {count:,} idle connections held ({closed} closed by it); {grown / count / 1024:.2f} KiB of "
            f"resident memory each ({grown / 1e6:.1f} MB); {cpu / 3:.1%} of a core; requests still answered"
        )
    return 0


def _closed_by_peer(connections: list[socket.socket]) -> int:
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        return len(selector.select(0))


def _report_slow_reader(sides: list[Side], engines: Engines) -> int:
    """One stream of 1 GiB, read slower than it comes."""
    event_bytes = 16384
    prompt = f"pad-{event_bytes} chunks-{SLOW_READER_BYTES // event_bytes + 1} every-0"
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
    for side in sides:
        if side.process is None:
            continue
        before, peak, received, started = side.process.rss_bytes(), 0, 0, time.monotonic()
        with socket.create_connection(("127.0.0.1", side.port), timeout=30) as client:
            client.sendall(side.head(body))
            tail, next_look = b"", 0.0
            while piece := client.recv(262144):
                received += len(piece)
                tail = (tail + piece)[-64:]
                if time.monotonic() >= next_look:
                    peak, next_look = max(peak, side.process.rss_bytes()), time.monotonic() + 0.1
                if tail.endswith(b"0\r\n\r\n") and b"[DONE]" in tail:
                    break
                ahead_s = received / SLOW_READER_BYTES_PER_S - (time.monotonic() - started)
                if ahead_s > 0:
                    time.sleep(ahead_s)
        seconds = time.monotonic() - started
        print(
            f"{side.name}: {received / (1 << 20):,.0f} MiB at {received / seconds / (1 << 20):.1f} MiB/s; "
            f"resident {before / 1e6:.1f} MB before, {peak / 1e6:.1f} MB at most, {(peak - before) / 1e6:+.1f} MB"
        )
        _wait_until_idle(engines)
    return 0


ROWS = (
    ("requests/s, 64 connections", "requests_per_s", "{:,.0f}", 1.0, True),
    ("processor us/request", "cpu_us_per_request", "{:,.1f}", 1.0, False),
    ("p50 ms at 64 connections", "p50_64_us", "{:,.2f}", 1e-3, False),
    ("p50 ms at 1 connection", "p50_1_us", "{:,.3f}", 1e-3, False),
    ("  added, ms", "added_p50_us", "{:,.3f}", 1e-3, False),
    ("TTFT p50 ms, 256 streams, burst", "burst_ttft_us", "{:,.2f}", 1e-3, False),
    ("  added, ms", "added_burst_us", "{:,.2f}", 1e-3, False),
    ("TTFT p50 ms, 256 streams, spread", "spread_ttft_us", "{:,.2f}", 1e-3, False),
    ("  added, ms", "added_spread_us", "{:,.2f}", 1e-3, False),
    ("  chunks/s (25,600 offered)", "spread_chunks_per_s", "{:,.0f}", 1.0, True),
    ("  processor us/chunk", "cpu_us_per_chunk", "{:,.1f}", 1.0, False),
    ("chunks/s, 256 streams, flood", "flood_chunks_per_s", "{:,.0f}", 1.0, True),
    ("errors", "errors", "{:,.0f}", 1.0, False),
)


def _report(sides: list[Side], rounds: list[dict[str, Figures]], once: dict[str, Figures], seconds: float) -> None:
    for turn in rounds:
        bare = turn[BARE]
        for figures in turn.values():
            figures["added_p50_us"] = figures["p50_1_us"] - bare["p50_1_us"]
            figures["added_burst_us"] = figures["burst_ttft_us"] - bare["burst_ttft_us"]
            figures["added_spread_us"] = figures["spread_ttft_us"] - bare["spread_ttft_us"]
    names = [side.name for side in sides]
    print(f"{platform.platform()}, Python {platform.python_version()}, {len(rounds)} rounds, {seconds:.0f} s")
    print(f"load average {os.getloadavg()[0]:.1f} over the last minute, of {os.cpu_count()} cores")
    print(f"gateway on core {GATEWAY_CORE}, load and {ENGINES} mock engines on core {LOAD_CORE}; medians of the rounds")
    _print_row("", names)
    for label, key, shape, scale, _ in ROWS:
        _print_row(label, [shape.format(scale * _median(turn[name][key] for turn in rounds)) for name in names])
    _report_once(names, once)
    _report_ratios(names, rounds)


def _report_once(names: list[str], once: dict[str, Figures]) -> None:
    def cells(shape: Callable[[Figures], str]) -> list[str]:
        return [shape(once[name]) if name in once else "" for name in names]

    def abort(figures: Figures, window: str) -> str:
        if f"abort_{window}_ms" not in figures:
            return "never"
        text = f"{figures[f'abort_{window}_ms']:.2f} / {figures[f'abort_{window}_worst_ms']:.2f}"
        seen = figures[f"abort_{window}_seen"]
        return text if seen == 1 else f"{text} ({seen:.0%})"

    _print_row("MB resident before", cells(lambda f: f"{f['rss_before'] / 1e6:.1f}"))
    _print_row("MB resident after", cells(lambda f: f"{f['rss_after'] / 1e6:.1f}"))
    _print_row("  requests in between", cells(lambda f: f"{f['rss_requests']:,.0f}"))
    _print_row("abort ms (median / worst), whole", cells(lambda f: abort(f, "whole")))
    _print_row("abort ms (median / worst), stream", cells(lambda f: abort(f, "stream")))


def _report_ratios(names: list[str], rounds: list[dict[str, Figures]]) -> None:
    """gridctl against each peer: above 1, gridctl is better. The median over rounds, with the least and the most."""
    ours = [name for name in names if name.startswith("gridctl")]
    for own, peer in ((own, peer) for own in ours for peer in names if peer not in (*ours, BARE)):
        print(f"\n{own} against {peer} (times better; median of rounds, least to most)")
        for label, key, shape, scale, is_more_better in ROWS:
            if key in ("errors", "spread_chunks_per_s"):
                continue
            pairs = [(turn[own][key], turn[peer][key]) for turn in rounds]
            pairs = [pair for pair in pairs if all(value > 0 for value in pair)]  # not of what was not measured, either
            if not pairs:
                print(f"  {label.strip():<36} no ratio: a side finished nothing, or added nothing to the bare load")
                continue
            ratios = [mine / theirs if is_more_better else theirs / mine for mine, theirs in pairs]
            mine, theirs = (shape.format(scale * _median(side)) for side in zip(*pairs, strict=True))
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {label.strip():<36} {statistics.median(ratios):>8.2f}  ({spread})  {mine} and {theirs}")


def _median(values: Iterable[float]) -> float:
    """The median of what was measured; not a number where nothing was."""
    found = [value for value in values if value == value]
    return statistics.median(found) if found else float("nan")


def _print_row(label: str, cells: list[str]) -> None:
    print(f"{label:<36}" + "".join(f"{cell:>28}" for cell in cells))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
