"""The broker's decisions and accounts: whom it chooses and leaves out, what it says, that counts come out even."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livegrids import Request, broker_of, chat, cluster, grid, model, plan_of, replaced, same_country, workload

from gridctl.broker.broker import Broker
from gridctl.broker.choice import Choice
from gridctl.broker.refusal import Refusal
from gridctl.broker.scratch import idle_board
from gridctl.broker.seen import read_seen
from gridctl.errors import InputError
from gridctl.resources import EngineLimits, Objective, PolicyOverride, PolicySpec, Telemetry
from gridctl.routing.route import route
from gridctl.signals.rows import FAILING, FRESH, NEVER, STALE, UNSUPPORTED
from gridctl.units import NS_PER_MS, NS_PER_S

NOW = 50 * NS_PER_S
PASSING = ("in_flight", "pending_tokens", "kv_tokens")


def _choose(broker: Broker, *, now: int = NOW, tried: tuple[int, ...] = (), body: bytes | None = None) -> Choice:
    return broker.decide(broker.ask(Request(), body or chat(), now), now, tried)


def _refusal(broker: Broker, *, now: int = NOW, tried: tuple[int, ...] = (), body: bytes | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        _choose(broker, now=now, tried=tried, body=body)
    return caught.value


def _rows(broker: Broker, site: str) -> list[int]:
    return [backend.row for backend in broker.live.backends if backend.site == site]


# ── whom it chooses ──


def test_a_faster_engine_across_the_ocean_loses_where_the_way_there_breaks_the_promise() -> None:
    strict, _ = broker_of(grid(workload(objectives=(Objective(metric="ttft_ms", threshold_ms=95.0),))))
    assert _choose(strict).backend.site in ("paris", "lyon", "berlin")
    far = next(row for row in strict.sight.rows if strict.live.backends[int(row.engine)].site == "ashburn")
    assert far.worst_ratio > 1.0
    assert far.ttft_us == min(row.ttft_us for row in strict.sight.rows), "it would be the fastest were it here"


def test_equal_engines_share_the_work() -> None:
    """Requests that come one after another find nothing in flight: all would go to one engine, were ties by order."""
    broker, _ = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    counts: Counter[int] = Counter()
    for _ in range(400):
        ask = broker.ask(Request(), chat(), NOW)
        choice = broker.decide(ask, NOW)
        counts[choice.row] += 1
        broker.ended(choice, ask, "cancelled", 0, NOW)
    assert sorted(counts) == _rows(broker, "paris")
    assert min(counts.values()) > 140, "a fair coin gives fewer than 140 of 400 once in 10^9"


def test_an_admit_counts_before_the_next_decision() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="least-loaded")))
    chosen = [_choose(broker).row for _ in range(8)]
    assert sorted(chosen) == sorted(backend.row for backend in broker.live.backends), "one each"
    assert board.slots.in_flight[0].sum() == 8


def test_the_counts_of_other_workers_count() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="least-loaded")))
    busy = _rows(broker, "ashburn")[0]
    board.slots[1].in_flight[:] = 5
    board.slots[1].in_flight[busy] = 0
    assert _choose(broker).row == busy


def test_what_was_tried_is_not_chosen_again() -> None:
    broker, _ = broker_of()
    tried: tuple[int, ...] = ()
    for _ in broker.live.backends:
        row = _choose(broker, tried=tried).row
        assert row not in tried
        tried = (*tried, row)
    refusal = _refusal(broker, tried=tried)
    assert (refusal.status, refusal.reason) == (503, "unhealthy")


def test_a_pinned_variant_is_the_only_one_served() -> None:
    both = grid(model(variants=("bf16", "fp8")), cluster("lyon", "l40s", 1, variant="llama/fp8"))
    broker, _ = broker_of(both)
    for _ in range(5):
        choice = _choose(broker, body=chat().replace(b"llama", b"llama/fp8"))
        assert (choice.backend.site, choice.backend.variant) == ("lyon", "fp8")


def test_a_conversation_goes_back_to_where_its_beginning_was_read() -> None:
    policy = PolicySpec(algorithm="grid", prediction_shape=4)
    broker, _ = broker_of(grid(policy=policy))
    body = chat("once upon a time " * 400)
    first = broker.ask(Request(), body, NOW)
    choice = broker.decide(first, NOW)
    assert choice.cached_tokens == 0
    broker.ended(choice, first, "completed", 20, NOW + NS_PER_S)
    for _ in range(10):
        again = broker.ask(Request(), body, NOW + 2 * NS_PER_S)
        later = broker.decide(again, NOW + 2 * NS_PER_S)
        assert later.row == choice.row
        # 6,800 bytes are 13 whole windows of 512 and a half; every window stands for 128 tokens of four bytes.
        assert 12 * 128 <= later.cached_tokens <= 13 * 128
        broker.ended(later, again, "cancelled", 0, NOW + 2 * NS_PER_S)


def test_tenants_do_not_profit_from_each_others_prompts() -> None:
    from gridctl.broker.keys import digest_of
    from gridctl.broker.plan import Key

    keys = [Key(digest=digest_of(name), name=name, tenant=name) for name in ("acme", "rival")]
    broker, _ = broker_of(grid(workload(tenants=("acme", "rival"))), keys=keys, anonymous=False)
    asks = [broker.ask(Request({b"x-api-key": name}), chat("x" * 3000), NOW) for name in (b"acme", b"acme", b"rival")]
    assert asks[0].blocks.tolist() == asks[1].blocks.tolist()
    assert not set(asks[0].blocks.tolist()) & set(asks[2].blocks.tolist())
    broker.decide(asks[0], NOW)
    assert broker.decide(asks[2], NOW).cached_tokens == 0


def test_a_session_sticks_to_its_engine_by_name() -> None:
    broker, _ = broker_of(grid(policy=PolicySpec(algorithm="session-sticky")))
    rows = set()
    for name in (b"ann", b"bob", b"cleo", b"dan", b"eve", b"fay"):
        chosen = {
            broker.decide(broker.ask(Request({b"x-gridctl-session": name}), chat(), NOW), NOW).row for _ in range(5)
        }
        assert len(chosen) == 1
        rows |= chosen
    assert len(rows) > 1


def test_a_conversation_named_in_the_body_sticks_too() -> None:
    broker, _ = broker_of(grid(policy=PolicySpec(algorithm="session-sticky")))
    assert len({_choose(broker, body=chat(prompt_cache_key="k7")).row for _ in range(8)}) == 1


# ── whom it leaves out ──


def test_an_engine_that_failed_five_times_in_a_row_is_left_out_until_its_time_is_up() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    down = _rows(broker, "paris")
    for row in down:
        for _ in range(5):
            broker.failed(row, "connect-failed", NOW)
    assert board.slots.connect_failures[0][down].tolist() == [5, 5]
    assert {_choose(broker).backend.site for _ in range(20)} == {"lyon"}
    after = NOW + 31 * NS_PER_S
    sites = Counter(_choose(broker, now=after).backend.site for _ in range(400))
    assert 0 < sites["paris"] < 80, "it gets a twentieth each of two, to be tried"
    for row in down:
        for _ in range(40):
            after += NS_PER_S
            broker.succeeded(row, after)
    assert {_choose(broker, now=after).backend.site for _ in range(20)} == {"paris"}


def test_what_probes_say_counts_as_well() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    board.engines.admit_ppm[_rows(broker, "paris")] = 0
    assert _choose(broker).backend.site == "lyon"


def test_an_engine_on_trial_is_used_when_there_is_nobody_else() -> None:
    broker, board = broker_of()
    board.engines.admit_ppm[:] = 0
    board.engines.admit_ppm[3] = 1
    assert {_choose(broker).row for _ in range(20)} == {3}


def test_when_all_are_out_the_refusal_says_when_to_come_again() -> None:
    broker, _ = broker_of()
    for backend in broker.live.backends:
        for _ in range(5):
            broker.failed(backend.row, "reset", NOW)
    refusal = _refusal(broker, now=NOW + NS_PER_S)
    assert (refusal.status, refusal.reason, refusal.should_retry) == (503, "unhealthy", True)
    assert refusal.code == "unhealthy"
    assert "all 8 that may are ejected" in refusal.message
    assert refusal.retry_after_ms == 29_000, "the first ejection lasts thirty seconds"


def test_a_full_queue_is_refused_early() -> None:
    limits = EngineLimits(max_num_seqs=2, max_waiting=1)
    near = [cluster(name, "l4", 1, engine=limits) for name in ("paris", "lyon", "berlin", "zurich", "ashburn")]
    broker, _ = broker_of(grid(*near))
    for _ in range(15):
        _choose(broker)
    refusal = _refusal(broker)
    assert (refusal.status, refusal.reason) == (429, "queue-full")


def test_a_prompt_that_nobody_can_hold_is_told_so() -> None:
    broker, _ = broker_of()
    refusal = _refusal(
        broker, body=json.dumps({"model": "llama", "messages": [{"role": "user", "content": "x" * 200_000}]}).encode()
    )
    assert (refusal.status, refusal.code, refusal.reason) == (400, "context_length_exceeded", "too-long")


def test_a_promise_that_nobody_can_keep_is_refused_if_the_workload_says_so() -> None:
    hard = {"objectives": (Objective(metric="ttft_ms", threshold_ms=1.0),)}
    broker, board = broker_of(grid(workload(when_infeasible="reject", **hard)))
    refusal = _refusal(broker)
    assert (refusal.status, refusal.reason) == (429, "infeasible")
    assert refusal.retry_after_ms is not None
    assert board.slots.in_flight.sum() == 0
    late, _ = broker_of(grid(workload(when_infeasible="serve-late", **hard)))
    assert _choose(late).reason == "least-late"


def test_hard_rules_hold_when_their_only_place_is_down() -> None:
    broker, _ = broker_of(grid(workload(jurisdiction=same_country())), default_origin="zurich")
    row = _choose(broker).row
    assert _rows(broker, "zurich") == [row]
    assert _refusal(broker, tried=(row,)).status == 503
    for _ in range(5):
        broker.failed(row, "reset", NOW)
    assert _refusal(broker).status == 503


def _cordoned(name: str) -> Any:
    return replaced(cluster(name, "l4", 1), state="cordoned")


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ([workload(quality_floor=0.99)], 403, "quality"),
        (
            [workload(jurisdiction=msgspec.convert({"rule": "listed", "allow": ["JP"]}, type(same_country())))],
            403,
            "jurisdiction",
        ),
        ([_cordoned(name) for name in ("paris", "lyon", "berlin", "zurich", "ashburn")], 503, "outage"),
        (
            [cluster(name, "l4", 1, running=0) for name in ("paris", "lyon", "berlin", "zurich", "ashburn")],
            503,
            "no-model",
        ),
    ],
    ids=["quality", "jurisdiction", "outage", "no endpoint"],
)
def test_a_refusal_says_which_rule_it_was(change: list[Any], status: int, reason: str) -> None:
    broker, _ = broker_of(grid(*change))
    refusal = _refusal(broker)
    assert (refusal.status, refusal.reason) == (status, reason)


# ── what it believes of telemetry ──


def _ttft_us(broker: Broker, board: Any, row: int, **fields: int) -> float:
    for name, value in fields.items():
        board.engines[row][name] = value
    others = tuple(backend.row for backend in broker.live.backends if backend.row != row)
    return _choose(broker, tried=others).predicted_ttft_us


@pytest.mark.parametrize(
    ("state", "age_ms", "doubt_ms"),
    [
        (UNSUPPORTED, 0, 0.0),  # it has no telemetry: nothing is overdue
        (FRESH, 0, 0.0),
        (FRESH, 2000, 0.0),
        (FRESH, 2400, 20.0),  # 0.4 s overdue, a twentieth of it
        (FRESH, 3000, 50.0),
        (FRESH, 60_000, 50.0),  # stale: no more than at its end
        (STALE, 0, 50.0),
        (FAILING, 0, 50.0),
        (NEVER, 0, 50.0),
    ],
)
def test_an_overdue_report_adds_doubt_to_the_wait(state: int, age_ms: int, doubt_ms: float) -> None:
    broker, board = broker_of()
    sure = _ttft_us(broker, board, 2, telemetry_state=UNSUPPORTED)
    board.slots[0] = np.zeros_like(board.slots[0])
    known = {"scrape_ns": NOW - age_ms * NS_PER_MS, "period_ns": NS_PER_S}
    assert _ttft_us(broker, board, 2, telemetry_state=state, **known) - sure == pytest.approx(1000 * doubt_ms)


def test_a_stale_report_of_an_idle_engine_is_not_believed() -> None:
    broker, board = broker_of()
    board.slots[1].in_flight[2] = board.slots[1].pending_tokens[2] = 16
    busy = _ttft_us(broker, board, 2, telemetry_state=STALE, running=0, waiting=0, kv_used_tokens=0)
    idle, other = broker_of()
    assert busy > _ttft_us(idle, other, 2, telemetry_state=STALE)


def test_requests_that_came_past_us_are_seen_in_a_fresh_report() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="least-loaded")))
    row = _rows(broker, "paris")[0]
    board.engines.telemetry_state, board.engines.period_ns = FRESH, NS_PER_S
    board.engines.scrape_ns, board.engines.running, board.engines.waiting = NOW - NS_PER_MS, 0, 0
    board.engines.sequence = 2
    board.engines.running[row] = 9
    ask = broker.ask(Request(), chat(), NOW)
    broker.decide(ask, NOW)
    seen = {int(one.engine): int(one.in_flight) for one in broker.sight.rows}
    assert seen == {index: (9 if backend.row == row else 0) for index, backend in enumerate(broker.live.backends)}
    broker.decide(ask, NOW + 4 * NS_PER_S)
    assert {int(one.in_flight) for one in broker.sight.rows} <= {0, 1}, "an old report says nothing of others any more"


@pytest.mark.parametrize("in_flight", ["local", "none"])
@pytest.mark.parametrize("lie", [1 << 62, (1 << 63) - 1, -(1 << 63), 1 << 40])
def test_an_engine_that_lies_is_neither_believed_beyond_reason_nor_shut_out(lie: int, in_flight: str) -> None:
    """Our own counts decide whether a queue is full; a load of any size is one that tables can hold."""
    limits = EngineLimits(max_num_seqs=2, max_waiting=1)
    near = [cluster(name, "l4", 1, engine=limits) for name in ("paris", "lyon", "berlin", "zurich", "ashburn")]
    telemetry = Telemetry(in_flight=in_flight)  # type: ignore[arg-type]
    broker, board = broker_of(grid(*near, policy=PolicySpec(telemetry=telemetry)))
    board.engines.telemetry_state, board.engines.scrape_ns, board.engines.sequence = FRESH, NOW, 2
    board.engines.running = board.engines.waiting = board.engines.kv_used_tokens = lie
    choice = _choose(broker)
    assert 0 < choice.predicted_ttft_us < float("inf")
    ask = broker.ask(Request(), chat(), NOW)
    broker.ended(broker.decide(ask, NOW), ask, "completed", abs(lie), NOW + 1, prompt_tokens=abs(lie))
    assert _choose(broker).predicted_ttft_us > 0


def test_counts_that_an_engine_does_not_report_are_our_own() -> None:
    telemetry = Telemetry(in_flight="none")
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="least-loaded", telemetry=telemetry)))
    board.engines.telemetry_state, board.engines.scrape_ns = FRESH, NOW
    board.slots[1].in_flight[:8] = 4
    board.slots[1].in_flight[5] = 0
    assert _choose(broker).row == 5


# ── what it learns ──


def test_an_engine_that_is_slower_than_predicted_is_predicted_slower() -> None:
    broker, _ = broker_of()
    first = None
    for _ in range(200):
        ask = broker.ask(Request(), chat(stream=True), NOW)
        choice = broker.decide(ask, NOW, tuple(row for row in range(8) if row != 4))
        first = first or choice
        at = NOW + round(choice.engine_ttft_us * 2 * 1000)
        broker.first_token(choice, ask, at)
        broker.ended(choice, ask, "completed", 11, at + round(10 * choice.engine_tpot_us * 1.5 * 1000))
    own = broker.sight.own[4]
    assert float(own.ttft_ratio) == pytest.approx(2.0, rel=0.12)
    assert float(own.tpot_ratio) == pytest.approx(1.5, rel=0.07)
    assert float(broker.sight.own[3].ttft_ratio) == 1.0
    assert first is not None
    last = _choose(broker, tried=tuple(row for row in range(8) if row != 4))
    fixed = first.predicted_ttft_us - first.engine_ttft_us
    assert last.predicted_ttft_us - fixed == pytest.approx(float(own.ttft_ratio) * last.engine_ttft_us)


def test_lengths_of_answers_and_bytes_of_tokens_are_learned() -> None:
    broker, _ = broker_of()
    body = chat("word " * 2000)
    before = broker.ask(Request(), body, NOW)
    assert before.output_tokens == 64, "the workload's declared mean"
    assert before.prompt_tokens == pytest.approx(10_000 / 4, rel=0.01)
    for _ in range(60):
        ask = broker.ask(Request(), body, NOW)
        choice = broker.decide(ask, NOW)
        broker.ended(choice, ask, "completed", 500, NOW + NS_PER_S, prompt_tokens=2000)
    after = broker.ask(Request(), body, NOW)
    assert after.output_tokens == (60 * 500 + 16 * 64) // 76
    assert after.prompt_tokens == pytest.approx(2000, rel=0.02)
    assert broker.ask(Request(), chat(max_tokens=7), NOW).output_tokens == 7
    assert broker.ask(Request(path="/v1/embeddings"), b'{"model":"llama","input":"x"}', NOW).output_tokens == 1


# ── accounts ──


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["first", "end", "end", "retry"]),
        st.integers(0, 30),
        st.sampled_from(["completed", "failed", "cancelled", "expired", "refused"]),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=12), events=_EVENTS)
def test_whatever_happens_counts_come_back_to_nothing(sizes: list[int], events: list[tuple[str, int, str]]) -> None:
    broker, board = broker_of()
    live: list[tuple[Any, Choice]] = []
    decided = 0
    for size in sizes:
        ask = broker.ask(Request(), chat("y" * size, stream=True), NOW)
        live.append((ask, broker.decide(ask, NOW)))
        decided += 1
    done: list[tuple[Any, Choice]] = []
    for what, which, outcome in events:
        if not live:
            break
        ask, choice = live[which % len(live)]
        if what == "first":
            broker.first_token(choice, ask, NOW + which)
            continue
        live.remove((ask, choice))
        broker.ended(choice, ask, outcome, which, NOW + which)
        done.append((ask, choice))
        if what == "retry":
            live.append((ask, broker.decide(ask, NOW + which, (choice.row,))))
            decided += 1
        assert board.slots.in_flight[0].sum() == len(live)
        assert min(int(board.slots[name].min()) for name in PASSING) >= 0
    for ask, choice in [*live, *done]:
        broker.ended(choice, ask, "failed", 0, NOW)
        broker.first_token(choice, ask, NOW)
    for name in PASSING:
        assert not board.slots[name].any()
    assert board.slots.requests.sum() == decided


# ── plans ──


def test_a_reload_keeps_what_is_in_flight_and_what_was_learned() -> None:
    resources = grid()
    board = idle_board(32)
    plan = plan_of(resources)
    broker = Broker(plan, board, 0, seed=1)
    ask = broker.ask(Request(), chat("z" * 5000, stream=True), NOW)
    choice = broker.decide(ask, NOW)
    broker.sight.own[choice.row].ttft_ratio = 0.75
    gone = next(name for name in ("lyon", "berlin") if name != choice.backend.site)
    fewer = [one for one in resources if one.name != f"{gone}-gpus"]
    after = plan_of(fewer, generation=2, previous=plan)
    broker.reload(after)
    assert broker.generation == 2
    assert {backend.row: backend.url for backend in after.backends}.items() <= {
        backend.row: backend.url for backend in plan.backends
    }.items()
    assert float(broker.sight.own[choice.row].ttft_ratio) == 0.75
    again = broker.ask(Request(), chat("z" * 5000), NOW)
    others = tuple(backend.row for backend in after.backends if backend.row != choice.row)
    assert broker.decide(again, NOW, others).cached_tokens > 0
    retried = broker.decide(ask, NOW, (choice.row,))
    assert retried.backend.site != gone
    assert retried.generation == 2
    broker.ended(choice, ask, "completed", 5, NOW + NS_PER_S)
    assert board.slots.in_flight[0].sum() == 2


def test_a_plan_that_cannot_be_resolved_leaves_the_one_in_use() -> None:
    broker, _ = broker_of()
    with pytest.raises(InputError):
        broker.reload(plan_of(grid(), generation=2, default_origin="zzyzzx"))
    assert broker.generation == 1
    assert _choose(broker).generation == 1


def test_a_workload_that_went_away_is_refused_for_those_still_waiting() -> None:
    broker, _ = broker_of()
    ask = broker.ask(Request(), chat(), NOW)
    broker.reload(plan_of(grid(workload("other")), generation=2))
    with pytest.raises(Refusal) as caught:
        broker.decide(ask, NOW)
    assert caught.value.status == 503


# ── what it tells ──


def test_a_recorded_decision_routes_again_as_it_did() -> None:
    broker, board = broker_of(records_decisions=True)
    generator = np.random.default_rng(1)
    for _ in range(60):
        board.slots[1].in_flight[:8] = generator.integers(0, 20, 8)
        choice = _choose(broker)
        assert choice.seen is not None
        seen = read_seen(choice.seen)
        assert int(route(seen.rows, len(seen.rows), seen.request, seen.policy)) == seen.choice
        assert broker.live.backends[int(seen.rows[seen.choice].engine)].row == choice.row
        assert len(seen.rows) == choice.candidates


@pytest.mark.parametrize("damage", [b"", b"\x01", b"\x00" * 400])
def test_a_damaged_record_is_refused(damage: bytes) -> None:
    with pytest.raises(InputError):
        read_seen(damage)


def test_only_streams_whose_client_did_not_ask_report_usage_to_us() -> None:
    broker, _ = broker_of(
        grid(cluster("paris", "l4", 2, served_model="meta/Llama"), policy=PolicySpec(algorithm="nearest"))
    )
    plain = chat(stream=True, temperature=0.10)
    ask = broker.ask(Request(), plain, NOW)
    sent = broker.upstream_body(ask, broker.decide(ask, NOW), plain)
    assert ask.adds_usage
    assert json.loads(sent) == {**json.loads(plain), "model": "meta/Llama", "stream_options": {"include_usage": True}}
    asked = chat(stream=True, stream_options={"include_usage": True})
    ask = broker.ask(Request(), asked, NOW)
    assert not ask.adds_usage
    assert broker.upstream_body(ask, broker.decide(ask, NOW), asked) == asked.replace(b'"llama"', b'"meta/Llama"')


def test_deadlines_are_what_the_client_waits_and_at_most_ours() -> None:
    broker, _ = broker_of(deadline_ms=60_000)
    for said, seconds in ((None, 60), (b"12.5", 12.5), (b"600", 60), (b"nan", 60), (b"-1", 60), (b"x", 60)):
        headers = {} if said is None else {b"x-stainless-read-timeout": said}
        assert broker.ask(Request(headers), chat(), NOW).deadline_ns - NOW == round(seconds * NS_PER_S)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(b"abc-123", "abc-123"), (b"x" * 128, "x" * 128), (b"x" * 129, ""), (b"a b", ""), (b"a\nb", ""), (b"\xe9", "")],
)
def test_a_name_for_the_request_is_kept_if_it_can_be_printed(said: bytes, kept: str) -> None:
    broker, _ = broker_of()
    assert broker.ask(Request({b"x-request-id": said}), chat(), NOW).request_id == kept


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("POST", "/v2/x", 404), ("POST", "/v1/chat/completions/", 404)],
)
def test_what_is_not_brokered_is_not_found(method: str, path: str, status: int) -> None:
    broker, _ = broker_of()
    with pytest.raises(Refusal) as caught:
        broker.ask(Request(method=method, path=path), chat(), NOW)
    assert caught.value.status == status


# ── what a policy allows ──


def test_a_policy_may_bound_the_way_and_the_tiers() -> None:
    near, _ = broker_of(grid(policy=PolicySpec(max_rtt_ms=15.0)))
    group = near.ask(Request(), chat(), NOW).group
    assert group is not None
    assert 2 < len(group.engines) < 8
    assert max(group.rtt_us) <= 15_000
    core, _ = broker_of(grid(policy=PolicySpec(tiers=("core",))))
    assert {_choose(core).backend.site for _ in range(4)} == {"ashburn"}
    own = PolicySpec(overrides={"chat": PolicyOverride(tiers=("regional",), candidates=1)})
    assert _choose(broker_of(grid(policy=own))[0]).candidates == 1


@pytest.mark.parametrize(
    ("policy", "rule", "facts"),
    [
        (PolicySpec(max_rtt_ms=0.001), "too-far", r"the nearest is \d+\.\d ms away, the policy allows 0.001 ms\."),
        (PolicySpec(tiers=("api",)), "tier", r"it runs at tier core, edge, metro, regional, the policy allows api\."),
        (PolicySpec(max_rtt_ms=0.001, tiers=("core",)), "too-far", r"the policy allows 0.001 ms\."),
    ],
)
def test_what_the_policy_allows_nowhere_is_refused_by_the_name_of_its_rule(
    policy: PolicySpec, rule: str, facts: str
) -> None:
    broker, _ = broker_of(grid(policy=policy))
    refusal = _refusal(broker)
    assert (refusal.status, refusal.reason, refusal.code) == (403, rule, rule)
    assert re.search(facts, refusal.message), refusal.message


def test_rules_of_the_workload_say_what_they_ask_and_what_there_is() -> None:
    law = workload(jurisdiction=same_country())
    broker, _ = broker_of(grid(law), default_origin="oslo")
    refusal = _refusal(broker)
    assert (refusal.status, refusal.code) == (403, "jurisdiction")
    assert "chat stays in its country (NO), and it runs in CH, DE, FR, US." in refusal.message
    broker, _ = broker_of(grid(workload(quality_floor=0.9)))
    refusal = _refusal(broker)
    assert (refusal.status, refusal.code) == (403, "quality")
    assert "bf16 has 0.8, it wants 0.9." in refusal.message


def test_engines_that_operators_took_out_or_that_nobody_connected_are_told_apart() -> None:
    shut = replaced(cluster("paris", "l4", 2), state="cordoned")
    others = [replaced(cluster(name, "l4", 1), state="draining") for name in ("lyon", "berlin", "zurich", "ashburn")]
    refusal = _refusal(broker_of(grid(shut, *others))[0])
    assert (refusal.status, refusal.reason, refusal.code) == (503, "outage", "outage")
    assert "operators set its sites or clusters to cordoned, draining." in refusal.message
    names = ("paris", "lyon", "berlin", "zurich", "ashburn")
    other = model("other")
    idle = [cluster(name, "l4", 1, running=0) for name in names[1:]]
    busy = cluster(names[0], "l4", 1, variant="other/bf16")
    broker, _ = broker_of(grid(other, busy, *idle, workload(models=("llama", "other"))))
    refusal = _refusal(broker)
    assert (refusal.status, refusal.reason, refusal.code) == (503, "no-model", "no-endpoint")
    broker, _ = broker_of(grid(other, workload(models=("llama", "other"))))
    ask = broker.ask(Request(), chat(model="other"), NOW)
    with pytest.raises(Refusal) as caught:
        broker.decide(ask, NOW)
    assert (caught.value.status, caught.value.reason, caught.value.code) == (503, "no-model", "no-model")


def test_callers_of_unknown_place_are_as_far_as_the_gateway_and_allowed_nothing_for_it() -> None:
    stands, _ = broker_of(default_origin=None, gateway_place="ashburn")
    nowhere, _ = broker_of(default_origin=None)
    known, _ = broker_of(default_origin="ashburn")
    groups = [broker.ask(Request(), chat(), NOW).group for broker in (stands, nowhere, known)]
    assert all(group is not None for group in groups)
    assert set(groups[1].rtt_us.tolist()) == {0}, "nothing is known"
    assert groups[0].rtt_us.tolist() == groups[2].rtt_us.tolist()
    assert groups[0].where.origin.country == "", "the country of the gateway is not the caller's"
    bound, _ = broker_of(grid(policy=PolicySpec(max_rtt_ms=1000.0)), default_origin=None, gateway_place="paris")
    refusal = _refusal(bound)
    assert (refusal.status, refusal.code) == (403, "too-far")
    assert "where it comes from is not known, and the policy bounds the round trip to 1000 ms" in refusal.message
    law, _ = broker_of(grid(workload(jurisdiction=same_country())), default_origin=None, gateway_place="paris")
    assert _refusal(law).code == "jurisdiction"


def test_from_nowhere_a_bound_on_the_way_is_exceeded() -> None:
    broker, _ = broker_of(grid(policy=PolicySpec(max_rtt_ms=3_600_000.0)), default_origin=None)
    assert _refusal(broker).status == 403


def test_origins_that_see_only_some_replicas_see_different_ones() -> None:
    many = grid(cluster("paris", "l4", 12), policy=PolicySpec(candidates=3))
    broker, _ = broker_of(many)
    seen = set()
    for name in ("paris", "lyon", "berlin", "zurich", "48.1,2.1", "49.2,3.3", "50.1,4.4"):
        group = broker.ask(Request({b"x-gridctl-origin": name.encode()}), chat(), NOW).group
        assert group is not None
        seen |= {engine for engine in group.engines.tolist() if broker.live.backends[engine].site == "paris"}
    assert len(seen) > 3


# ── engines that are out and come back ──


def _eject(broker: Broker, rows: list[int], kind: str = "connect-failed") -> None:
    for row in rows:
        for _ in range(5):
            broker.failed(row, kind, NOW)


def _probe(board: Any, rows: list[int], at_ns: int, *, passed: bool) -> None:
    board.engines["probe_passed_ns" if passed else "probe_failed_ns"][rows] = at_ns


def test_a_probe_that_passes_brings_an_engine_back_that_was_out_of_reach_and_gently() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    paris = _rows(broker, "paris")
    _eject(broker, paris)
    assert _choose(broker, now=NOW + NS_PER_S).backend.site == "lyon"
    _probe(board, paris, NOW - 1, passed=True)
    assert _choose(broker, now=NOW + 2 * NS_PER_S).backend.site == "lyon", "that probe was before it failed"
    _probe(board, paris, NOW + 3 * NS_PER_S, passed=True)
    sites = Counter(_choose(broker, now=NOW + 3 * NS_PER_S + 300 * NS_PER_MS).backend.site for _ in range(400))
    assert 0 < sites["paris"] < 80, "a twentieth each of two"


def test_a_probe_does_not_overrule_requests_that_fail_at_an_engine_that_answers_it() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    paris = _rows(broker, "paris")
    _eject(broker, paris, "status-5xx")
    _probe(board, paris, NOW + NS_PER_S, passed=True)
    assert {_choose(broker, now=NOW + 2 * NS_PER_S).backend.site for _ in range(100)} == {"lyon"}


def test_an_engine_that_broke_and_failed_its_probe_is_back_when_it_passes_again() -> None:
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest")))
    paris = _rows(broker, "paris")
    _eject(broker, paris, "reset")
    _probe(board, paris, NOW + NS_PER_S, passed=False)
    assert {_choose(broker, now=NOW + 2 * NS_PER_S).backend.site for _ in range(100)} == {"lyon"}
    _probe(board, paris, NOW + 3 * NS_PER_S, passed=True)
    assert "paris" in {_choose(broker, now=NOW + 4 * NS_PER_S).backend.site for _ in range(200)}


def test_after_an_outage_of_all_the_first_one_back_serves_everybody() -> None:
    """On trial with a twentieth of the traffic, and nobody else there: it must not refuse the other nineteen."""
    broker, board = broker_of()
    everybody = [backend.row for backend in broker.live.backends]
    _eject(broker, everybody)
    board.engines.admit_ppm[:] = 0
    assert _refusal(broker, now=NOW + NS_PER_S).status == 503
    _probe(board, [3], NOW + 2 * NS_PER_S, passed=True)
    board.engines.admit_ppm[3] = 50_000
    for number in range(200):
        ask = broker.ask(Request(), chat(), NOW)
        choice = broker.decide(ask, NOW + 3 * NS_PER_S + number * NS_PER_MS)
        assert choice.row == 3
        broker.ended(choice, ask, "cancelled", 0, NOW + 4 * NS_PER_S)
