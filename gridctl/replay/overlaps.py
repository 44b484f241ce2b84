"""Overlaps: faults that hold the same thing at the same time, which are refused.

An engine is held by one of a loss, a slow-down and a brown-out at a time, its telemetry by a loss or a fault of its
own; a path, a crowd and a price each by one fault of their kind, and a path that is cut leads to nothing that is lost.
Anything else may happen together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from gridctl.errors import InputError
from gridctl.grid.image import GridImage

if TYPE_CHECKING:
    from gridctl.replay.faults import Fault


def overlaps(
    faults: Sequence[Fault],
    numbers: Sequence[int],
    place: Callable[[int, str], str],
    image: GridImage,
    origins: Sequence[str],
) -> list[InputError]:
    """Every fault that begins while another holds something of its own. `numbers` are the faults' in their file."""
    problems = []
    held: dict[Hashable, Fault] = {}
    ends: list[Fault] = []
    for number, fault in sorted(zip(numbers, faults, strict=True), key=lambda pair: pair[1].at_ns):
        things = list(_things(fault))
        shared = next((one for one in things if one in held and held[one].until_ns > fault.at_ns), None)
        before = held[shared] if shared is not None else None
        what = "" if shared is None else _name(shared, image, origins)
        if before is None:
            before = next((one for one in ends if one.until_ns > fault.at_ns and _meet(one, fault)), None)
            what = "some of its paths"
        if before is not None:
            problems.append(
                InputError(
                    f"{fault.text} begins while {before.text} holds {what}",
                    where=place(number, fault.kind),
                    fix="let one end before the other begins, or name places without a common engine",
                )
            )
        ends += [fault] if fault.kind in ("link", "lose") else []
        for one in things:
            if one not in held or held[one].until_ns < fault.until_ns:
                held[one] = fault
    return problems


def _things(fault: Fault) -> Iterator[tuple[str, int]]:
    """What a fault holds, but for paths, of which there may be millions."""
    if fault.kind in ("lose", "slow", "brownout"):
        yield from (("engine", engine) for engine in fault.engines)
    if fault.kind in ("lose", "telemetry"):
        yield from (("telemetry", engine) for engine in fault.engines)
    if fault.kind == "price":
        yield from ((fault.what, engine) for engine in fault.engines)
    if fault.kind == "crowd":
        yield from (("crowd", origin) for origin in fault.origins)


def _meet(one: Fault, other: Fault) -> bool:
    """Whether two changes of paths have a path in common, or one is cut that leads to what the other loses."""
    if one.kind == other.kind == "lose":
        return False
    if "lose" in (one.kind, other.kind):
        return (one.is_cut or other.is_cut) and not set(one.engines).isdisjoint(other.engines)
    return any(
        not set(a.origins).isdisjoint(b.origins) and not set(a.engines).isdisjoint(b.engines)
        for a in one.ways
        for b in other.ways
    )


def _name(thing: Hashable, image: GridImage, origins: Sequence[str]) -> str:
    assert isinstance(thing, tuple)
    word, number = thing
    if word == "crowd":
        return origins[number]
    facts = image.engines[number].facts
    return facts.cluster or facts.site or facts.kind
