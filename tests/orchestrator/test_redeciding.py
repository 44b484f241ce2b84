"""Recorded decisions made again: the same under the same policy, and under another one what its rule says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridctl.broker.rows import FACTS
from gridctl.broker.seen import keep_seen
from gridctl.errors import InputError
from gridctl.orchestrator.redeciding import Move, redecide
from gridctl.resources import Objective, PolicyOverride, PolicySpec, WorkloadSpec
from gridctl.routing.route import route
from gridctl.routing.rows import CANDIDATE, policy_records, request_records
from gridctl.traces.recorded import Recorded, RecordedEngine
from gridctl.traces.recorder import Recorder, start_recording

ENGINES = [
    RecordedEngine(site="paris", cluster="p", variant="fp8", replica=0),
    RecordedEngine(site="lyon", cluster="l", variant="fp8", replica=0),
    RecordedEngine(site="lyon", cluster="l", variant="fp8", replica=1),
]
GRID, NEAREST, LEAST = (PolicySpec(algorithm=name) for name in ("grid", "nearest", "least-loaded"))


def seen(policy: PolicySpec, rtts: list[float], in_flight: list[int], cash: list[float], draw: int = 0) -> bytes:
    """A decision among three engines that all meet a first token in 500 ms."""
    rows = np.zeros(len(rtts), CANDIDATE)
    rows["engine"], rows["is_available"] = range(len(rtts)), 1
    rows["rtt_us"], rows["in_flight"], rows["usd_cash"] = np.array(rtts) * 1000, in_flight, cash
    rows["ttft_us"], rows["tpot_us"], rows["prompt_tokens"] = 50_000, 10_000, 100
    spec = WorkloadSpec(objectives=(Objective(metric="ttft_ms", threshold_ms=500),), models=("m",))
    request, record = request_records([spec]), policy_records([policy])
    request[0].output_tokens, request[0].draw = 20, draw
    choice = int(route(rows.view(np.recarray), len(rows), request[0], record[0]))
    return keep_seen(rows, np.zeros((len(rows), FACTS)), len(rows), request, record, choice)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 decisions of `grid`: the far engine is the cheapest, and every third time the near one is idle."""
    folder = tmp_path / "day.recording"
    recorder = Recorder(folder, 0, start_recording(folder, started_unix_ns=0))
    recorder.keep_engines(4, ENGINES)
    for number in range(300):
        busy = [0 if number % 3 == 0 else 9, 5, 5]
        recorder.add(
            Recorded(
                timestamp=float(number),
                input_length=100,
                output_length=20,
                workload="chat" if number % 2 else "voice",
                request_id=f"r{number}",
                generation=4,
            ),
            seen(GRID, [5, 20, 20], busy, [0.002, 0.001, 0.0005], number),
        )
    recorder.add(Recorded(timestamp=301.0, input_length=1, output_length=1, outcome="refused"))
    recorder.close()
    return folder


def test_every_decision_comes_out_as_it_was_under_the_policy_it_was_made_with(folder: Path) -> None:
    found = redecide(folder)
    assert (found.requests, found.decided, found.same, found.moved, found.moves) == (301, 300, 300, 0, ())
    assert redecide(folder, GRID).moved == 0


def test_another_policy_moves_what_its_rule_says(folder: Path) -> None:
    """The cheapest was lyon's second engine; nearest takes paris always, least-loaded whenever it is idle."""
    assert redecide(folder, NEAREST, policy_name="near").moves == (
        Move(workload="chat", before="lyon/l/fp8#1", after="paris/p/fp8#0", requests=150, example="r1"),
        Move(workload="voice", before="lyon/l/fp8#1", after="paris/p/fp8#0", requests=150, example="r0"),
    )
    idle = sum(move.requests for move in redecide(folder, LEAST).moves if move.after.startswith("paris"))
    assert idle == 100


def test_a_workloads_override_moves_only_its_requests(folder: Path) -> None:
    policy = PolicySpec(overrides={"voice": PolicyOverride(algorithm="nearest")})
    assert {move.workload: move.requests for move in redecide(folder, policy).moves} == {"voice": 150}


def test_a_changed_row_is_noticed(folder: Path) -> None:
    """So that 'the same' means something: one recorded choice is altered."""
    file = next(folder.glob("*.decisions"))
    data = bytearray(file.read_bytes())
    data[4 + 8 : 4 + 12] = (0).to_bytes(4, "little")  # length, then version, width and count, then the choice
    file.write_bytes(data)
    assert redecide(folder).moved == 1


def test_a_recording_without_decisions_or_names_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "engines-4.json").unlink()
    with pytest.raises(InputError, match="generation 4"):
        redecide(folder)
    plain = tmp_path / "plain.recording"
    recorder = Recorder(plain, 0, start_recording(plain, started_unix_ns=0))
    recorder.add(Recorded(timestamp=0.0, input_length=1, output_length=1))
    recorder.close()
    with pytest.raises(InputError, match="no decision"):
        redecide(plain)
