"""Single flight: one engine request for any number of clients that ask the same at the same time.

The first to ask leads; those that ask the same meanwhile follow, and get what its engine says as it says it. Only equal
exact keys meet here, which are made within a partition, so never two tenants. Invariants: a key has one leader; a
follower ends served, gone, or sent on alone; what failed is never handed on: a follower that has got nothing yet goes
alone, once, and one that has got a part is told that it broke. A leader whose client leaves flies on for its followers.
Nearly nobody is followed: a flight is made when the first one joins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gridctl.answers.question import Kept
    from gridctl.answers.whole import Whole

MOST_BUFFERED = 8 << 20
"""Bytes of a stream that are held for followers; a longer one is given to those who keep up."""
FlightKey = tuple[bytes, int | None, str]
"""The exact key, the longest answer that is wanted, and who asks where an answer on its way is nobody else's yet."""


class Follower(Protocol):
    """Who waits for somebody else's answer. After `landed`, `go_alone` or `broke` nothing more comes."""

    def follow(self) -> None:
        """There is more in the flight's buffer."""

    def landed(self) -> None:
        """The answer is complete."""

    def go_alone(self) -> None:
        """There will be no answer, or none that may be handed on."""

    def broke(self) -> None:
        """The answer broke off after its beginning."""


class Leader(Protocol):
    """Whose request it is. `parts` are the bytes of its stream so far, `size` how many it has had; `flight` is there
    once somebody follows. When the flight lands, `whole` is what its engine said, or `kept` what it found after all."""

    whole: Whole | None
    kept: Kept | None
    flight: Flight | None
    parts: list[bytes] | tuple[()]
    size: int

    @property
    def is_stream(self) -> bool:
        """Whether its client asked for a stream."""

    @property
    def wants_usage(self) -> bool:
        """Whether its client asked for the usage in a stream."""

    @property
    def own(self) -> bytes:
        """What an answer to it repeats of it."""

    def abandoned(self) -> None:
        """Nobody follows any more."""


class Flight:
    """One key's request under way, which others follow. `parts` are the stream's bytes so far, for those who follow it
    as it comes: `is_stream` and `wants_usage` say of what kind it is."""

    __slots__ = ("followers", "is_stream", "key", "leader", "parts", "wants_usage")

    def __init__(self, key: FlightKey, leader: Leader) -> None:
        self.key = key
        self.leader = leader
        self.is_stream = leader.is_stream
        self.wants_usage = leader.wants_usage
        self.followers: list[Follower] = []
        leader.parts = self.parts = list(leader.parts)

    def heard(self, data: bytes) -> None:
        """The leader's engine has said more."""
        self.parts.append(data)
        for follower in tuple(self.followers):
            follower.follow()


class Flights:
    """A worker's leaders, and who follows them. `shared` counts the requests that followed one."""

    def __init__(self) -> None:
        self.leaders: dict[FlightKey, Leader] = {}
        self.shared = 0

    def __len__(self) -> int:
        return len(self.leaders)

    def find(self, key: FlightKey) -> Flight | None:
        """The flight of a key; None where nobody leads, or more was said than is held: nobody can join any more."""
        leader = self.leaders.get(key)
        if leader is None or leader.size > MOST_BUFFERED:
            return None
        if leader.flight is None:
            leader.flight = Flight(key, leader)
        return leader.flight

    def join(self, flight: Flight, follower: Follower) -> None:
        """Follow a flight."""
        flight.followers.append(follower)
        self.shared += 1

    def leave(self, flight: Flight, follower: Follower) -> bool:
        """A follower has gone; whether nobody follows any more."""
        if follower in flight.followers:
            flight.followers.remove(follower)
        return not flight.followers

    def end(self, key: FlightKey, leader: Leader) -> list[Follower]:
        """Nobody can join any more; who follows now."""
        if self.leaders.get(key) is leader:
            del self.leaders[key]
        flight, leader.flight = leader.flight, None
        if flight is None:
            return []
        followers, flight.followers = flight.followers, []
        return followers

    def land(self, key: FlightKey, leader: Leader) -> None:
        """The answer is complete and may be handed on."""
        for follower in self.end(key, leader):
            follower.landed()

    def fail(self, key: FlightKey, leader: Leader) -> None:
        """There is no answer, or none to hand on; each follower decides by what it has got."""
        for follower in self.end(key, leader):
            follower.go_alone()

    def break_off(self, key: FlightKey, leader: Leader) -> None:
        """The answer broke off after its beginning."""
        for follower in self.end(key, leader):
            follower.broke()
