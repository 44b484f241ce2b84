"""`gridctl route`: where a request would go, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import names_of
from gridctl.cli.output import OutputOption, emit, write

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Where a request would go, and why.")

_TOKENS = 1_000_000


def complete_workload(incomplete: str) -> list[str]:
    """Names of workloads."""
    return names_of("workload", incomplete)


def complete_site(incomplete: str) -> list[str]:
    """Names of sites."""
    return names_of("site", incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Names of models."""
    return names_of("model", incomplete)


@app.callback()
def _noun() -> None:
    """Where a request would go, and why."""


@app.command("test")
def ask(
    origin: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="Where it comes from: a site, a city or LAT,LON.", autocompletion=complete_site
        ),
    ],
    workload: Annotated[
        str, typer.Option(metavar="NAME", help="What it is for: an SLA class.", autocompletion=complete_workload)
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL[/VARIANT]",
            help="Ask for this one; any the workload takes unless given.",
            autocompletion=complete_model,
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who asks; the workload's first tenant unless given.")
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, max=_TOKENS, help="Length of the prompt; the workload's mean unless given.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=1, max=_TOKENS, help="Length of the answer; the workload's mean unless given.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help="A policy's name, a manifest file or an algorithm.")
    ] = None,
    prices: Annotated[str | None, typer.Option(metavar="BOOK", help="The price book.")] = None,
    output: OutputOption = "table",
) -> None:
    """Dry-run a decision: every candidate with its predicted latency and dollars, and why the others lose.

    Nothing is sent. Asked of the orchestrator that runs, as loaded as it is now; without one, or with a policy or
    prices of your own, of the grid as it is declared, with every engine running and idle.

    Example:
      gridctl route test --origin fr-paris-01 --workload voice
      gridctl route test --origin 48.9,2.4 --workload voice --prompt-tokens 4000 -o wide
    """
    from gridctl.broker.dry_run import Question
    from gridctl.cli.warmup import ready_decisions
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live import route_test_live
    from gridctl.orchestrator.routing import route_test
    from gridctl.render.explanation_of_request import COLUMNS, candidate_items
    from gridctl.render.route_test import document, text

    question = Question(
        workload=workload,
        origin=origin,
        model=model,
        tenant=tenant,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )
    home = current_grid()
    decision = route_test_live(home, question) if policy is None and prices is None else None
    source = "orchestrator" if decision is not None else "registry"
    if decision is None:
        ready_decisions()
        decision = route_test(home, question, policy=policy, prices=prices or "default")
    if output in ("table", "wide", "markdown"):
        write(text(decision, source, output))
    elif output == "csv":
        emit(candidate_items(decision), COLUMNS, output, kind="RouteTest")
    else:
        found = document(decision, source)
        emit([{"name": found["name"]}], [], output, kind="RouteTest", single=True, documents=[found])
