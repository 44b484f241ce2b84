"""`gridctl replay run TRACE --live URL`: the options of a live load, checked, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.credential import key_in
from gridctl.cli.output import emit, note, progress
from gridctl.errors import InputError, UsageError

if TYPE_CHECKING:
    from gridctl.cli.gating import Held
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.replaying import Order
    from gridctl.traces.trace import Traffic

LiveOption = Annotated[
    str | None,
    typer.Option("--live", metavar="URL", help="Send it to this OpenAI-compatible endpoint, in real time."),
]
LiveModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="With --live: ask for this model, whatever the trace says.")
]
LiveKeyOption = Annotated[
    str, typer.Option("--api-key-env", metavar="VARIABLE", help="With --live: the variable that holds the API key.")
]
ConnectionsOption = Annotated[
    int, typer.Option("--max-connections", metavar="N", min=1, max=65_000, help="With --live: connections at once.")
]
TimeoutOption = Annotated[
    str, typer.Option("--answer-timeout", metavar="TIME", help="With --live: how long an answer may take.")
]
ThinkOption = Annotated[
    str,
    typer.Option(
        "--think",
        metavar="TIME|trace",
        help="With --live: a session's next turn comes this long after the answer, or as long as between the two turns"
        " in the trace.",
    ),
]
NetworkOption = Annotated[
    Literal["modelled", "measured"],
    typer.Option("--network", help="With --live: add the modelled way from origin to site, or measure only."),
]
PromptSeedOption = Annotated[
    int | None,
    typer.Option(
        "--prompt-seed",
        metavar="N",
        min=0,
        max=2**62,
        help="With --live: the words of made-up prompts follow from it; new ones each time otherwise, so that no cache"
        " knows them from an earlier load.",
    ),
]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="With --live: send no fields beyond OpenAI's (ignore_eos, min_tokens).")
]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The options of a live load, as given."""

    url: str
    model: str
    api_key_env: str
    connections: int
    timeout: str
    think: str
    network: str
    is_plain: bool
    prompt_seed: int | None


def refuse_beside_live(options: Sequence[tuple[str, bool]]) -> None:
    """Raise UsageError for options that say what a replay does and a live load cannot."""
    given = [name for name, is_given in options if is_given]
    if given:
        raise UsageError(
            f"{given[0]} is for replays: a live load takes the endpoint as it is",
            where=given[0],
            fix=f"leave out {given[0]}, or --live",
        )


def run_live(
    home: GridHome,
    traffic: Traffic,
    order: Order,
    options: LiveOptions,
    held: Held | None,
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Send a trace to an endpoint and print the run it made; with `dry_run`, say what would be sent."""
    from gridctl.cli.amounts import span_of
    from gridctl.cli.gating import emit_gated
    from gridctl.cli.run_argument import read_run
    from gridctl.liveload.heard import Limits
    from gridctl.liveload.target import target_of
    from gridctl.orchestrator.liveloading import LiveOrder, plan_load, replay_live
    from gridctl.orchestrator.plan import load_ensemble
    from gridctl.render.runs import DRAWN_COLUMNS, drawn_item

    if not options.url:
        raise UsageError(
            "--model, --api-key-env and --plain say how a trace is sent, and nothing says where to",
            where="--live",
            fix="--live http://HOST:PORT",
        )
    target = target_of(options.url, key_in(options.api_key_env))
    think_s = None if options.think == "trace" else span_of(options.think, "--think")
    limits = Limits(options.connections, span_of(options.timeout, "--answer-timeout"), think_s)
    if limits.timeout_s <= 0:
        raise UsageError("no answer comes in no time", where="--answer-timeout", fix="--answer-timeout 10m")
    _check_descriptors(limits.connections)
    live = LiveOrder(
        order,
        target,
        limits,
        options.model,
        adds_distance=options.network == "modelled",
        is_plain=options.is_plain,
        prompt_seed=options.prompt_seed,
    )
    if dry_run:
        plan = plan_load(home, traffic, live, note)
        names = ", ".join(dict.fromkeys(name for name in plan.models if name))
        note(
            f"dry run: {len(plan.trace):,} requests ({plan.turns:,} of them later turns of sessions) for {names} would"
            f" be sent to {target.url} over {plan.duration_s:,.1f} s, on at most {limits.connections:,} connections;"
            " no completion was asked for"
        )
        return
    with progress("sending", len(traffic)) as advance:
        info = replay_live(home, traffic, live, note, advance)
    item = drawn_item(info, load_ensemble(info, home))
    if held:
        emit_gated(item, DRAWN_COLUMNS, output, held, read_run(info.name), home)
        return
    emit([item], DRAWN_COLUMNS, output, kind="Run", single=True)
    note(f"next: gridctl tokenomics {info.name}; gridctl sla {info.name}; gridctl replay compare TWIN {info.name}")


def _check_descriptors(connections: int) -> None:
    """Allow as many open files as the load may need, or say that the system does not."""
    import resource

    wanted = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InputError(
            f"{connections:,} connections need more open files than the {hard:,} this process may have",
            where="--max-connections",
            fix=f"--max-connections {max(1, hard - 256)}, or raise the limit: ulimit -n",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
