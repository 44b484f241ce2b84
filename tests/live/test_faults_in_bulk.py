"""Ten thousand requests, a real worker, and engines and clients that fail at random: each request ends in one way.

The worker is a process as `gridctl up` starts it, with its own broker, board and meter. A tenth of what its engines do
is wrong: resets, stalls, half answers, noise, 5xx, late first bytes. What clients saw and what the meter counted must
agree.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_parts import scripted_engine
from real_worker import RunningWorker, running_worker
from test_random_faults import faulty, one_client

from gridctl.broker.plan import Settings
from gridctl.signals.finished import OUTCOMES
from gridctl.signals.totals import Totals, read_totals

REQUESTS, CLIENTS = 10_000, 20
ONE_OF = 110  # 11 faults of so many: rare enough that engines are seldom taken out, which would end the faults
SETTLE_S = 20.0


class _Connects:
    """What a client needs of a gateway."""

    def __init__(self, worker: RunningWorker) -> None:
        self.connect = worker.connect


def _counted(totals: Totals) -> Counter[str]:
    counted = totals.counted(None).outcomes
    return Counter({word: int(number) for word, number in zip(OUTCOMES, counted, strict=True) if number})


@pytest.mark.slow
def test_ten_thousand_requests_amid_faults_end_in_one_way_each_and_the_meters_add_up(tmp_path: Path) -> None:
    settings = Settings(
        anonymous=True, default_origin="paris", stream_stall_ms=100, first_byte_timeout_ms=100, connect_timeout_ms=500
    )
    with (
        scripted_engine(faulty(7, ONE_OF)) as one,
        scripted_engine(faulty(8, ONE_OF)) as two,
        scripted_engine(faulty(9, ONE_OF)) as three,
        running_worker(tmp_path, [one.url, two.url, three.url], settings) as worker,
    ):
        with ThreadPoolExecutor(CLIENTS) as pool:
            each = REQUESTS // CLIENTS
            asked = [pool.submit(one_client, _Connects(worker), 70_000 + number, each) for number in range(CLIENTS)]  # type: ignore[arg-type]
            seen = sum((one.result(500) for one in asked), Counter[str]())
        slots = worker.board.slots
        deadline = time.monotonic() + SETTLE_S
        while int(slots["in_flight"].sum()) or int(worker.board.heartbeats["connections"].sum()):
            assert time.monotonic() < deadline, "requests or connections are left over"
            time.sleep(0.02)
        counted = _counted(read_totals(worker.board))
        assert worker.process.poll() is None
        assert int(slots["pending_tokens"].sum()) == 0
        assert int(slots["kv_tokens"].sum()) == 0
    # Every request of the clients is a success, an error, an answer that broke off in plain sight, or was left.
    assert sum(seen.values()) == REQUESTS, seen
    # The meter knows each of them once. Some were left before their last byte, and so were no request; of a client
    # that leaves as its answer is written, the gateway may know that it was.
    ended = counted.total()
    assert REQUESTS - seen["left"] <= ended <= REQUESTS, (seen, counted)
    assert counted["cancelled"] <= seen["left"], (seen, counted)
    assert seen["success"] <= counted["completed"] <= ended - counted["cancelled"], (seen, counted)
    bad = counted["failed"] + counted["rejected"] + counted["expired"] + counted["refused"]
    assert bad <= seen["error"] + seen["broken"] + seen["left"], (seen, counted)
    assert seen["success"] > 0.6 * REQUESTS, seen
