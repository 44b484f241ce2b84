"""The next step and the pointers: pure, so every order of events can be tried."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.agent.deciding import Moment, next_step
from gridctl.agent.pointers import MAX_ATTEMPTS, Pointers, read_pointers
from gridctl.errors import StoreError
from gridctl.rollout.protocol import Version, Wanted

DIGESTS = tuple(f"sha256:{letter * 64}" for letter in "abc")
CALM = Moment(now_unix_s=1000.0, may_start=True, is_window_open=True, lease_left_s=60.0)


def version(number: int, counter: int | None = None) -> Version:
    return Version(DIGESTS[number], f"v{number}", number if counter is None else counter)


def wish(number: int, mode: str, counter: int | None = None, **fields: object) -> Wanted:
    one = version(number, counter)
    return Wanted(model="m", reference=f"r/m@{one.digest}", version=one, mode=mode, **fields)  # type: ignore[arg-type]


def act(wanted: Wanted | None, pointers: Pointers, whole: set[int], moment: Moment = CALM) -> str | None:
    found = next_step(wanted, pointers, frozenset(DIGESTS[number] for number in whole), moment)
    return None if found is None else found.act + (f" {found.reason}" if found.reason else "")


HERE = Pointers(committed=version(0), highest=0)
TRYING = Pointers(committed=version(0), trial=version(1), attempted=version(1), attempts=1, highest=1)


@pytest.mark.parametrize(
    ("wanted", "pointers", "whole", "changes", "expected"),
    [
        (wish(1, "stage"), HERE, {0}, {}, "fetch"),
        (wish(1, "stage"), HERE, {0, 1}, {}, None),
        (wish(1, "trial"), HERE, {0, 1}, {}, "try"),
        (wish(1, "trial"), HERE, {0, 1}, {"lease_left_s": 0.0}, None),
        (wish(1, "commit"), HERE, {0, 1}, {"lease_left_s": 0.0}, "try"),
        (wish(1, "commit"), HERE, {0, 1}, {"may_start": False}, None),
        (wish(1, "commit"), HERE, {0, 1}, {"is_window_open": False}, None),
        (wish(1, "commit"), HERE, {0}, {"retry_at_unix_s": 1001.0}, None),
        (wish(1, "commit", deadline_unix_s=999.0), HERE, {0}, {}, "refuse interrupted"),
        (wish(1, "commit", 1), Pointers(committed=version(0), highest=5), {0}, {}, "refuse counter"),
        (wish(0, "commit", 7), HERE, {0}, {}, "renumber"),
        (wish(0, "commit", 0), HERE, {0}, {}, None),
        (wish(0, "commit", 0), HERE, set(), {}, "fetch"),
        (wish(0, "absent", 9), HERE, {0}, {}, "drop"),
        (None, HERE, {0}, {}, None),
        (wish(1, "trial"), TRYING, {0, 1}, {}, "revert interrupted"),
        (wish(1, "trial"), TRYING, {0, 1}, {"proved": version(1)}, None),
        (wish(1, "commit"), TRYING, {0, 1}, {"proved": version(1)}, "commit"),
        (wish(1, "commit"), TRYING, {0, 1}, {"proved": version(1), "lease_left_s": -1.0}, "commit"),
        (wish(1, "trial"), TRYING, {0, 1}, {"proved": version(1), "lease_left_s": -1.0}, "revert lease"),
        (wish(1, "commit"), TRYING, {0, 1}, {"proved": version(1), "engine_failed": True}, "revert engine"),
        (wish(2, "commit"), TRYING, {0, 1, 2}, {"proved": version(1)}, "revert"),
        (None, TRYING, {0, 1}, {"proved": version(1)}, "revert"),
    ],
)
def test_the_next_step(
    wanted: Wanted | None, pointers: Pointers, whole: set[int], changes: dict[str, object], expected: str | None
) -> None:
    moment = Moment(**{**{name: getattr(CALM, name) for name in CALM.__dataclass_fields__}, **changes})  # type: ignore[arg-type]
    assert act(wanted, pointers, whole, moment) == expected


def test_a_version_that_failed_three_loads_waits_for_a_higher_counter() -> None:
    pointers = HERE
    for _ in range(MAX_ATTEMPTS):
        assert act(wish(1, "commit"), pointers, {0, 1}) == "try"
        pointers = pointers.trying(version(1)).reverted(is_version_at_fault=True)
    assert act(wish(1, "commit"), pointers, {0, 1}) is None
    assert act(wish(1, "commit", 2), pointers.asked(version(1, 2)), {0, 1}) == "try"


def test_a_trial_that_ended_for_its_lease_costs_no_attempt() -> None:
    pointers = HERE
    for _ in range(10):
        pointers = pointers.trying(version(1)).reverted(is_version_at_fault=False)
    assert act(wish(1, "trial"), pointers, {0, 1}) == "try"


def test_pointers_that_nobody_can_read_are_told() -> None:
    with pytest.raises(StoreError, match="pointers cannot be read"):
        read_pointers(b'{"committed": 7}', "pointers.json")


events = st.lists(
    st.tuples(
        st.sampled_from(["wish", "step", "engine fails", "lease ends", "lease", "crash"]),
        st.integers(0, 2),
        st.sampled_from(["stage", "trial", "commit"]),
    ),
    max_size=40,
)


@given(events)
def test_whatever_happens_the_committed_version_is_whole_and_was_proved(happenings: list[tuple[str, int, str]]) -> None:
    """The site as a model: steps are carried out as they are meant, crashes forget what is only in memory."""
    pointers, whole, wanted, counter = Pointers(), set(), None, 0
    proved: Version | None = None
    ever_proved: set[str] = set()
    lease, engine_failed, highest = 60.0, False, 0
    for what, number, mode in happenings:
        if what == "wish":
            counter += 1
            wanted = wish(number, mode, counter)
        elif what == "engine fails":
            engine_failed = proved is not None
        elif what == "lease ends":
            lease = 0.0
        elif what == "lease":
            lease = 60.0
        elif what == "crash":
            proved, engine_failed = None, False
            pointers = read_pointers(msgspec.json.encode(pointers), "here")
        else:
            if wanted is not None:
                pointers = pointers.asked(wanted.version)
            moment = Moment(1000.0, True, True, lease, proved, engine_failed)
            found = next_step(wanted, pointers, frozenset(whole), moment)
            if found is None:
                continue
            if found.act == "fetch":
                assert wanted is not None
                whole.add(wanted.version.digest)
            elif found.act == "try":
                assert wanted is not None
                before = pointers.attempts_of(wanted.version)
                pointers = pointers.trying(wanted.version)
                assert pointers.attempts == before + 1
                proved, engine_failed = wanted.version, False
                ever_proved.add(wanted.version.digest)
            elif found.act == "commit":
                pointers, proved = pointers.committing(), None
            elif found.act == "revert":
                pointers = pointers.reverted(is_version_at_fault=found.reason == "engine")
                proved, engine_failed = None, False
            elif found.act == "renumber":
                assert wanted is not None
                pointers = pointers.renumbered(wanted.version)
        assert pointers.named <= whole, "every pointer leads to a whole version"
        if pointers.committed is not None:
            assert pointers.committed.digest in ever_proved
        if pointers.trial is not None and pointers.committed is not None:
            assert pointers.trial.digest != pointers.committed.digest
        assert pointers.attempts <= MAX_ATTEMPTS
        assert pointers.highest >= highest
        highest = pointers.highest
