"""Inputs: what a run was made from, kept compressed in its folder, and the trace found again.

One JSON line says the policy, the options and which trace it was; the grid's resources follow, a manifest a line, so
that `zcat` shows them and `apply` takes them. Must not replay. Invariant: a trace that is not the one replayed is
refused, never explained. The digest of a trace is the one draws are kept under, too.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.resources import Policy, Resource
from gridctl.resources.gameday import GameDay

if TYPE_CHECKING:  # commands that only print inputs need no columns
    from gridctl.orchestrator.context import GridHome
    from gridctl.traces.trace import Traffic

VERSION = "inputs-v1"
STDIN = "-"


class TraceSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a trace was read and how it was shaped before it was replayed: the options of `replay run`."""

    path: str
    sort: bool = False
    block_tokens: int | None = None
    from_s: float = 0.0
    until_s: float | None = None
    limit: int | None = None
    speed: float = 1.0
    repeat: int = 1


class LiveSource(msgspec.Struct, frozen=True, kw_only=True):
    """How a trace was sent to an endpoint: the options of `replay run --live`; the endpoint's policy is its own.

    `prompt_seed` makes the same words of made-up prompts again. `think_s` None: as long as in the trace."""

    url: str
    model: str
    prompt_seed: int | None
    network: str
    is_plain: bool
    max_connections: int
    answer_timeout_s: float
    think_s: float | None


class InputsHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `trace_digest` is of the trace as shaped, before the grid's mix filled what it does not say. Of a
    run that was sent to an endpoint `live` says how, and `policy` is the grid's own default, which judged nothing."""

    gridctl_run: str
    gridctl_version: str
    policy: Policy
    prices: str
    seed: int
    trace_name: str
    trace_digest: str
    requests: int
    source: TraceSource | None = None
    game_day: GameDay | None = None
    live: LiveSource | None = None


@dataclass(frozen=True, slots=True)
class RunInputs:
    """Everything a run follows from, but the trace itself."""

    header: InputsHeader
    resources: tuple[Resource, ...]


def encode_inputs(inputs: RunInputs) -> bytes:
    """As it is kept: the same inputs give the same bytes."""
    from gridctl.manifest import dump

    lines = msgspec.json.encode(inputs.header) + b"\n" + dump(inputs.resources, "jsonl").encode()
    return gzip.compress(lines, compresslevel=6, mtime=0)


def load_inputs(name: str, home: GridHome) -> RunInputs:
    """What the run was made from. Raises NotFoundError for no such run or one that kept nothing, StoreError when it is
    damaged or another gridctl wrote it."""
    from gridctl.manifest import parse_manifest

    kept = home.open_runs().inputs(name)
    if kept is None:
        raise NotFoundError(
            f"run {name} did not keep what it was made from",
            where=f"run {name}",
            fix=f"an earlier gridctl made it, or it is a kept draw: gridctl replay run TRACE --name {name} --replace",
        )
    try:
        first, _, manifests = gzip.decompress(kept).partition(b"\n")
        header = msgspec.json.decode(first, type=InputsHeader)
        declared = parse_manifest(manifests, name=f"inputs of run {name}")
    except (OSError, EOFError, gzip.zlib.error, msgspec.MsgspecError, InputError) as error:  # type: ignore[attr-defined]
        raise StoreError(
            f"what run {name} was made from cannot be read: {error}",
            where=f"run {name}",
            fix="it is damaged, or another gridctl wrote it: replay the trace again",
        ) from None
    return RunInputs(header, tuple(one.resource for one in declared))


def inputs_item(name: str, inputs: RunInputs) -> dict[str, object]:
    """What a run was made from; `shaped` holds the options of `replay run` that are not the defaults."""
    header = inputs.header
    said, plain = msgspec.to_builtins(header.source or TraceSource(path="")), TraceSource(path="")
    # Of floats only the default object itself is left out of the encoding.
    options = {key: value for key, value in said.items() if value != getattr(plain, key)}
    return {
        "name": name,
        "policy": header.policy.name if header.live is None else "live",
        "prices": header.prices,
        "seed": header.seed,
        "trace": header.trace_name,
        "path": options.pop("path", None),
        "shaped": options,
        "requests": header.requests,
        "trace_digest": header.trace_digest,
        "resources": len(inputs.resources),
        "gridctl_version": header.gridctl_version,
        "live": None if header.live is None else msgspec.to_builtins(header.live),
    }


def open_source(source: TraceSource) -> Traffic:
    """Read the trace and shape it. Any shaping takes the whole trace into memory."""
    from gridctl.traces.reader import open_traffic

    return shaped(open_traffic(source.path, sort=source.sort, block_tokens=source.block_tokens), source)


def shaped(traffic: Traffic, source: TraceSource) -> Traffic:
    """The part of the trace that is asked for, sped up and repeated."""
    from gridctl.traces import slicing

    is_cut = source.from_s != 0.0 or source.until_s is not None or source.limit is not None
    if not is_cut and source.speed == 1.0 and source.repeat == 1:
        return traffic
    trace = traffic.whole()
    if is_cut:
        trace = slicing.cut(trace, source.from_s, source.until_s, source.limit)
    if source.speed != 1.0:
        trace = slicing.scale_time(trace, source.speed)
    return slicing.repeat(trace, source.repeat, shared_blocks=True) if source.repeat > 1 else trace


def absolute(path: str) -> str:
    """A path that means the same from every folder; standard input has none."""
    return path if path == STDIN else os.path.abspath(path)


def same_trace(inputs: RunInputs, path: str | None) -> Traffic:
    """The trace of the run, from `path` where it lies elsewhere now.

    Raises NotFoundError when it is not where it was, InputError when it is not the same, with both digests."""
    from gridctl.traces.identity import trace_digest

    header = inputs.header
    source = header.source or TraceSource(path="")
    if path is not None:
        source = msgspec.structs.replace(source, path=path)
    if source.path in ("", STDIN):
        raise NotFoundError(
            f"the trace {header.trace_name} was not read from a file",
            where="--trace",
            fix="say where it is: --trace FILE",
        )
    if not Path(source.path).exists():
        raise NotFoundError(
            "the trace of the run is not there any more", where=source.path, fix="say where it is now: --trace FILE"
        )
    traffic = open_source(source)
    digest = trace_digest(traffic)
    if digest != header.trace_digest:
        raise InputError(
            f"the trace is not the one that was replayed: {len(traffic):,} requests, {digest}; "
            f"the run was made from {header.requests:,}, {header.trace_digest}",
            where=source.path,
            fix="say where the trace is: --trace FILE; or replay this one as another run",
        )
    return traffic
