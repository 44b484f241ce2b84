"""Explaining: one request of a run, from the run's own inputs — the decision as it was made, and what came of it.

Decides which request is meant and refuses what cannot be explained truly: a run without its inputs, a trace that is not
the one replayed, a replay that decides otherwise. The looking is the replay room's, the timeline the accounts'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gridctl.accounts.pointing import find_request
from gridctl.accounts.rows import Run
from gridctl.accounts.timeline import timeline
from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean
from gridctl.grid.image import GridImage, build_image
from gridctl.manifest.gameday_file import GameDayFile
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.inputs import RunInputs, load_inputs, same_trace
from gridctl.orchestrator.replaying import overlaid, scripted
from gridctl.orchestrator.runs import load_run
from gridctl.replay.explanation import Explanation
from gridctl.replay.recollection import recollect
from gridctl.replay.witness import witness


@dataclass(frozen=True, slots=True)
class Question:
    """A request of a run that is found, before anything is replayed."""

    run: Run
    number: int
    inputs: RunInputs


def find_question(home: GridHome, target: str) -> Question:
    """What `RUN/REQUEST` means. Raises UsageError when it is not that, NotFoundError when there is no such thing."""
    name, slash, word = target.rpartition("/")
    if not slash or not name or not word:
        raise UsageError(
            f"{target!r} does not name a request of a run",
            where="RUN/REQUEST",
            fix=f"gridctl explain request {(target or 'base').strip('/') or 'base'}/worst",
        )
    run = load_run(name, home)
    if run.info.live:
        raise UsageError(
            f"run {name} was served live: what the router saw is known to the orchestrator that served it",
            where=target,
            fix="gridctl explain request ID, with the request's id (its x-request-id header, or the access log)",
        )
    if run.info.cache:
        raise UsageError(
            f"run {name} was made with caches: its requests are not explained one by one",
            where=target,
            fix="replay the trace without --cache, and explain the request there",
        )
    return Question(run, find_request(run, word), load_inputs(name, home))


def explain(
    question: Question,
    *,
    trace: str | None = None,
    site: str | None = None,
    advanced: Callable[[int], None] = lambda requests: None,
) -> Explanation:
    """Replay the run's inputs up to the request and tell its decision. `trace` is where the trace lies now; `site` is
    told of, too, candidate or not.

    Raises NotFoundError and InputError when the trace is gone or another, StoreError when a decision differs."""
    run, number, inputs = question.run, question.number, question.inputs
    header = inputs.header
    image = build_image(inputs.resources, price_book=header.prices)
    beside = _engines_at(image, site) if site is not None else ()
    complete = overlaid(same_trace(inputs, trace), inputs.resources, header.seed, lambda text: None)
    day = None if header.game_day is None else GameDayFile(header.game_day, f"run {run.info.name}")
    if run.info.faults and day is None:
        raise InputError(
            "the run did not keep its game day",
            where=f"run {run.info.name}",
            fix="an earlier gridctl made it: replay its trace again",
        )
    told, faults = scripted(complete, image, day)
    sighting = witness(
        image,
        told,
        header.policy.spec,
        number,
        run.rows,
        seed=header.seed,
        beside=beside,
        advanced=advanced,
        faults=faults,
        may_have_moved=any(fault.lost for fault in run.info.faults),
    )
    return Explanation(
        name=f"{run.info.name}/{number}",
        run=run.info.name,
        request=number,
        site=site,
        decision=recollect(sighting, header.policy.name),
        timeline=timeline(run, number),
        trace=header.trace_name,
        digest=run.info.digest,
    )


def _engines_at(image: GridImage, site: str) -> tuple[int, ...]:
    """The engines at a site. Raises NotFoundError when there is no such site or no engine."""
    if site not in image.view.sites:
        close = did_you_mean(site, image.view.sites)
        raise NotFoundError(
            f"the run's grid has no site {site}",
            where="--site",
            fix=f"did you mean {close}?" if close else "gridctl site list",
        )
    engines = enumerate(image.engines)
    found = tuple(index for index, one in engines if one.facts.site == site and one.spec.profile is not None)
    if not found:
        raise NotFoundError(
            f"site {site} has no engine, so it serves no request",
            where="--site",
            fix=f"gridctl cluster register NAME --site {site} --gpu GPU --gpus N --deploy MODEL/VARIANT",
        )
    return found
