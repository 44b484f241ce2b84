"""Single flight: one engine request for any number of clients that ask the same at the same time.

The first to ask leads; those that ask the same meanwhile follow, and get what its engine says as it says it. Only equal
exact keys meet here, which are made within a partition, so never two tenants. Invariants: a key has one flight; a
follower ends served, gone, or sent on alone; what failed is never handed on: a follower that has got nothing yet goes
alone, once, and one that has got a part is told that it broke. A leader whose client leaves flies on for its followers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gridctl.answers.question import Kept
    from gridctl.gateway.hits import Whole

MOST_BUFFERED = 8 << 20
"""Bytes of a stream that are held for followers; a longer one is given to those who keep up."""
FlightKey = tuple[bytes, int | None, str, str]


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
    """Whose request it is; when the flight lands, what its engine said, or the kept answer that it found after all."""

    whole: Whole | None
    kept: Kept | None

    def abandoned(self) -> None:
        """Nobody follows any more."""


class Flight:
    """One key's request under way. `parts` are the stream's bytes so far, for those who follow it as it comes:
    `is_stream` and `wants_usage` say of what kind it is."""

    __slots__ = ("followers", "is_stream", "key", "leader", "parts", "size", "wants_usage")

    def __init__(self, key: FlightKey, leader: Leader, *, is_stream: bool, wants_usage: bool) -> None:
        self.key = key
        self.leader = leader
        self.is_stream = is_stream
        self.wants_usage = wants_usage
        self.followers: list[Follower] = []
        self.parts: list[bytes] = []
        self.size = 0

    @property
    def is_overfull(self) -> bool:
        """Whether more was said than is held: nobody can join any more."""
        return self.size > MOST_BUFFERED

    def heard(self, data: bytes) -> None:
        """The leader's engine has said more."""
        self.size += len(data)
        self.parts.append(data)
        for follower in tuple(self.followers):
            follower.follow()


class Flights:
    """A worker's flights. `shared` counts the requests that followed one."""

    def __init__(self) -> None:
        self._flights: dict[FlightKey, Flight] = {}
        self.shared = 0

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, key: FlightKey) -> Flight | None:
        """The flight of a key that may still be joined."""
        flight = self._flights.get(key)
        return None if flight is None or flight.is_overfull else flight

    def begin(self, key: FlightKey, leader: Leader, *, is_stream: bool, wants_usage: bool) -> Flight | None:
        """A new flight; None where one of that key is under way, which cannot be joined."""
        if key in self._flights:
            return None
        flight = self._flights[key] = Flight(key, leader, is_stream=is_stream, wants_usage=wants_usage)
        return flight

    def join(self, flight: Flight, follower: Follower) -> None:
        """Follow a flight."""
        flight.followers.append(follower)
        self.shared += 1

    def leave(self, flight: Flight, follower: Follower) -> bool:
        """A follower has gone; whether nobody follows any more."""
        if follower in flight.followers:
            flight.followers.remove(follower)
        return not flight.followers

    def land(self, flight: Flight) -> None:
        """The answer is complete and may be handed on."""
        for follower in self._end(flight):
            follower.landed()

    def fail(self, flight: Flight) -> None:
        """There is no answer, or none to hand on; each follower decides by what it has got."""
        for follower in self._end(flight):
            follower.go_alone()

    def break_off(self, flight: Flight) -> None:
        """The answer broke off after its beginning."""
        for follower in self._end(flight):
            follower.broke()

    def _end(self, flight: Flight) -> list[Follower]:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        followers, flight.followers = flight.followers, []
        return followers
