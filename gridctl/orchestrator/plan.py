"""Plan: what draws were made from and of which run, kept beside them; and the draws read back.

Decides when draws that are there belong to a run: when the plan names the run by the moment it was made. Draws of a run
that has been replaced since are none of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gridctl.accounts.facts import RunInfo
from gridctl.errors import StoreError
from gridctl.orchestrator.context import GridHome

if TYPE_CHECKING:  # commands that only read draws need no kernels, and those of a run without draws no numpy
    from gridctl.accounts.intervals import Ensemble
    from gridctl.accounts.summary import Summary
    from gridctl.orchestrator.replaying import Order
    from gridctl.traces.trace import Traffic


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What draws are made from; each is a digest or a word that must be the same when they are taken up again."""

    trace: str
    grid: str
    policy: str
    options: str
    gridctl: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and when the run it belongs to was made (None until it is saved)."""

    seeds: int
    drawn: tuple[str, ...]
    inputs: Inputs
    created_ns: int | None = None


def load_ensemble(info: RunInfo, home: GridHome) -> Ensemble | None:
    """The draws of a run, or None when it has none; draws of a run that was replaced are none of it.

    Raises StoreError when they are there and cannot be read."""
    store = home.open_draws()
    plan = read_plan(home, info.name)
    if plan is None or plan.created_ns != info.created_ns:
        return None
    from gridctl.accounts.intervals import Ensemble

    draws = tuple(read_summary(home, info.name, number) for number in store.numbers(info.name) if number < plan.seeds)
    return Ensemble(asked=plan.seeds, drawn=plan.drawn, draws=draws) if draws else None


def read_plan(home: GridHome, name: str) -> Plan | None:
    """The plan of a run's draws, or None. Raises StoreError when another gridctl wrote it."""
    content = home.open_draws().plan(name)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Plan)
    except msgspec.MsgspecError as error:
        raise _foreign(name, error) from None


def read_summary(home: GridHome, name: str, number: int) -> Summary:
    """One draw. Raises StoreError when it is damaged or another gridctl wrote it."""
    from gridctl.accounts.summary import Summary

    try:
        return msgspec.json.decode(home.open_draws().read(name, number), type=Summary)
    except msgspec.MsgspecError as error:
        raise _foreign(name, error) from None


def _foreign(name: str, error: msgspec.MsgspecError) -> StoreError:
    return StoreError(
        f"the draws of run {name} cannot be read: {error}",
        where=f"run {name}",
        fix="they were written by another gridctl: replay with --seeds and --replace again",
    )


def write_plan(home: GridHome, name: str, plan: Plan, info: RunInfo | None) -> None:
    """Keep the plan of the draws of run `name`; they are those of the run `info` from now on."""
    bound = msgspec.structs.replace(plan, created_ns=info.created_ns if info else None)
    home.open_draws().write_plan(name, msgspec.json.encode(bound))


def inputs_of(trace: Traffic | None, resources: Sequence[msgspec.Struct], policy: object, order: Order) -> Inputs:
    """Digests of everything a draw depends on. The compiled kernels' folder is named after their source.

    `policy` is whatever decides, as values that JSON can hold; there is no trace where traffic is made for each replay.
    """
    from gridctl.kernels.cache import cache_folder
    from gridctl.traces.identity import trace_digest

    day = () if order.game_day is None else (order.game_day.gameday,)
    options = msgspec.json.encode((order.prices, order.seed, order.with_centralized, *day))
    return Inputs(
        trace=trace_digest(trace) if trace is not None else "",
        grid=_digest(msgspec.json.encode(resources)),
        policy=_digest(msgspec.json.encode(policy)),
        options=_digest(options),
        gridctl=cache_folder().name,
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
