"""A dry run tells the decision that a request would get, and leaves no trace."""

from __future__ import annotations

import msgspec
import pytest
from livegrids import Request, broker_of, chat, cluster, grid, same_country, workload

from gridctl.broker.broker import Broker
from gridctl.broker.dry_run import Question, dry_run
from gridctl.broker.refusal import Refusal
from gridctl.broker.scratch import idle_board, idle_plan
from gridctl.errors import InputError, NotFoundError
from gridctl.resources import EngineLimits, Objective, PolicySpec
from gridctl.resources.policy import ALGORITHMS

NOW = 10**12


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_tells_what_the_decision_is(algorithm: str) -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm=algorithm)))  # type: ignore[arg-type]
    board.slots[1].in_flight[:8] = [3, 1, 4, 1, 5, 9, 2, 6]
    board.slots[1].pending_tokens[:8] = 100
    ask = broker.ask(Request(), chat(), NOW)
    told = dry_run(
        broker,
        Question("chat", "paris", prompt_tokens=ask.prompt_tokens, output_tokens=ask.output_tokens, draw=ask.draw),
        NOW,
    )
    assert board.slots.in_flight[0].sum() == 0
    choice = broker.decide(ask, NOW)
    assert told.chosen is not None
    assert broker.live.backends[told.chosen].row == choice.row
    assert broker.live.backends[told.runner_up or 0].row == choice.runner_up
    chosen = next(one for one in told.candidates if one.status == "chosen")
    assert chosen.forecast is not None
    assert chosen.forecast.ttft_ms * 1000 == pytest.approx(choice.predicted_ttft_us)
    assert [one.engine for one in told.candidates if one.status == "runner-up"] == [told.runner_up]
    assert len(told.candidates) == 8
    assert all(one.because for one in told.candidates)


def test_what_load_adds_is_told_apart() -> None:
    broker, board = broker_of()
    idle = dry_run(broker, Question("chat", "paris"), NOW)
    board.slots[1].in_flight[:8] = board.slots[1].pending_tokens[:8] = 500
    busy = dry_run(broker, Question("chat", "paris"), NOW)
    for before, after in zip(idle.candidates, busy.candidates, strict=True):
        assert before.forecast is not None
        assert after.forecast is not None
        assert before.forecast.queue_ms == 0.0
        assert after.forecast.queue_ms > 0.0
        assert after.forecast.prefill_ms == before.forecast.prefill_ms
        assert after.telemetry is not None
        assert after.telemetry.seen_in_flight == 500


def test_engines_that_cannot_take_it_say_why() -> None:
    limits = EngineLimits(max_num_seqs=1, max_waiting=1)
    broker, board = broker_of(grid(cluster("lyon", "l40s", 1, engine=limits)))
    rows = {backend.site: backend.row for backend in broker.live.backends}
    board.slots[1].in_flight[rows["lyon"]] = 2
    board.engines.admit_ppm[rows["zurich"]] = 0
    told = {one.site: one for one in dry_run(broker, Question("chat", "paris"), NOW).candidates}
    assert (told["lyon"].status, told["lyon"].reason) == ("refused", "queue-full")
    assert (told["zurich"].status, told["zurich"].reason) == ("refused", "unhealthy")
    assert told["zurich"].forecast is None
    long = dry_run(broker, Question("chat", "paris", prompt_tokens=9000), NOW)
    assert (long.outcome, long.reason, long.chosen) == ("rejected", "too-long", None)
    assert {one.reason for one in long.candidates} == {"too-long"}


def test_engines_that_are_no_candidates_are_counted_by_reason() -> None:
    broker, _ = broker_of(
        grid(workload(jurisdiction=same_country()), cluster("lyon", "l40s", 1, running=0)), default_origin="paris"
    )
    told = dry_run(broker, Question("chat"), NOW)
    assert told.origin == "paris"
    assert told.passed_over == {"jurisdiction": 5, "no-endpoint": 1}
    cut, _ = broker_of(grid(policy=PolicySpec(candidates=3)))
    assert dry_run(cut, Question("chat"), NOW).passed_over == {"beyond-list": 5}


def test_a_refusal_is_an_answer() -> None:
    hard = workload(when_infeasible="reject", objectives=(Objective(metric="ttft_ms", threshold_ms=1.0),))
    broker, _ = broker_of(grid(hard))
    told = dry_run(broker, Question("chat", "paris"), NOW)
    assert (told.outcome, told.reason, told.chosen, told.runner_up) == ("rejected", "infeasible", None, None)
    assert {one.reason for one in told.candidates} == {"misses"}


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (Question("nothing"), NotFoundError),
        (Question("chat", "zzyzzx"), NotFoundError),
        (Question("chat", "91,0"), (InputError, Refusal)),
        (Question("chat", tenant="rival"), InputError),
        (Question("chat", model="gpt-9"), Refusal),
        (Question("chat", model="llama/int3"), Refusal),
    ],
)
def test_names_that_mean_nothing_are_refused(question: Question, error: type[Exception]) -> None:
    broker, _ = broker_of()
    with pytest.raises(error):
        dry_run(broker, question, NOW)


def test_a_grid_that_nobody_serves_can_be_asked_too() -> None:
    resources = [one if one.kind != "Cluster" else _without_endpoints(one) for one in grid()]
    plan = idle_plan(resources)
    assert len(plan.backends) == 8
    broker = Broker(plan, idle_board(len(plan.backends)), 0)
    told = dry_run(broker, Question("chat", "lyon"), NOW)
    assert told.outcome == "routed"
    assert {one.forecast.queue_ms for one in told.candidates if one.forecast} == {0.0}
    assert msgspec.json.decode(msgspec.json.encode(told), type=type(told)) == told


def _without_endpoints(one: object) -> object:
    spec = one.spec  # type: ignore[attr-defined]
    bare = tuple(msgspec.structs.replace(deployment, endpoints=()) for deployment in spec.deployments)
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(spec, deployments=bare))  # type: ignore[type-var]
