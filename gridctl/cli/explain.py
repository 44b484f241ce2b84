"""`gridctl explain`: what a kind or a field means, and why a request of a run went where it went."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import complete_kinds, names_of
from gridctl.cli.output import OutputOption, emit, progress, write
from gridctl.errors import UsageError
from gridctl.render.rows import Column

_COLUMNS = (
    Column("field", "field"),
    Column("type", "type"),
    Column("required", "required"),
    Column("default", "default"),
    Column("allowed", "allowed"),
    Column("description", "description"),
)


REQUEST = "request"
"""The word that asks for a request instead of a kind."""


def complete_subject(incomplete: str) -> list[str]:
    """Kinds, and `request`."""
    return [*complete_kinds(incomplete), *([REQUEST] if REQUEST.startswith(incomplete) else [])]


def complete_request(incomplete: str) -> list[str]:
    """Names of runs with a slash; after the slash, the words for requests."""
    from gridctl.cli.run_argument import complete_run

    name, slash, word = incomplete.rpartition("/")
    if not slash:
        return [f"{run}/" for run in complete_run(incomplete)]
    try:
        from gridctl.accounts.pointing import WORDS

        return [f"{name}/{known}" for known in WORDS if known.startswith(word)]
    except ImportError:
        return []


def complete_site(incomplete: str) -> list[str]:
    """Names of sites."""
    return names_of("site", incomplete)


def command(
    path: Annotated[
        str | None,
        typer.Argument(metavar="[KIND[.FIELD]|request]", help="Dotted when nested.", autocompletion=complete_subject),
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN/REQUEST|ID]",
            help="A number, worst, worst-ttft, missed:3; of a live request, its id.",
            autocompletion=complete_request,
        ),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a request: why not this site?", autocompletion=complete_site),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of a request: where the run's trace lies now.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of a kind, of a list (SiteList) or of a result (Run)."),
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Describe a kind's fields, or one field: type, default, range, meaning. With no argument, the kinds.

    With `request`, explain why a request of a run went where it went: every candidate with its predicted latency and
    dollars, the runner-up, what the router saw, and what came of it. `gridctl help explain`. A live request is named by
    the x-request-id of its answer: the running orchestrator remembers the latest, a recording all of them.

    Example:
      gridctl explain request base/worst
      gridctl explain request base/missed:3 --site fr-paris-01
      gridctl explain request req-2726c9076bec51da9ca377c00349139c
      gridctl explain request day.recording/req-2726c9076bec51da9ca377c00349139c
      gridctl explain workload.objectives
      gridctl explain site --schema > site.schema.json
      gridctl explain Tokenomics --schema
    """
    if path == REQUEST and not schema:
        _explain_request(target, trace, site, output)
    elif target is not None or site is not None or trace is not None:
        raise UsageError(
            f"{path or 'a kind'} is no request", where="explain", fix="gridctl explain request RUN/REQUEST --site NAME"
        )
    elif schema:
        _print_schema(path)
    elif path is None:
        _emit_kinds(output)
    else:
        emit_explanation(path, output)


def _explain_request(target: str | None, trace: str | None, site: str | None, output: str) -> None:
    if target is None:
        raise UsageError("which request?", where="RUN/REQUEST", fix="gridctl explain request RUN/worst")
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.explaining_live import is_recorded

    recorded = is_recorded(target)
    if recorded is not None or ("/" not in target and not _is_run(target)):
        _explain_live(target, recorded, output)
        return
    from gridctl.orchestrator.explaining import explain, find_question
    from gridctl.render.explanation_of_request import COLUMNS, candidate_items, document, text

    question = find_question(current_grid(), target)
    ready_replay()
    with progress("replaying", question.number) as advance:
        explanation = explain(question, trace=trace, site=site, advanced=advance)
    if output in ("table", "wide", "markdown"):
        write(text(explanation, output))
    elif output == "csv":
        emit(candidate_items(explanation.decision), COLUMNS, output, kind="Explanation")
    else:
        emit(
            [{"name": explanation.name}], [], output, kind="Explanation", single=True, documents=[document(explanation)]
        )


def _is_run(name: str) -> bool:
    """Whether a run has that name, so that no request of it was named."""
    from gridctl.orchestrator.context import current_grid

    return name in current_grid().open_runs().list()


def _explain_live(target: str, recorded: tuple[str, str] | None, output: str) -> None:
    """A request that was really served: of a recording, or one that the running orchestrator remembers."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.explaining_live import explain_live, explain_recorded
    from gridctl.render.explanation_of_live import document, text
    from gridctl.render.explanation_of_request import COLUMNS, candidate_items

    explanation = explain_live(current_grid(), target) if recorded is None else explain_recorded(*recorded)
    if output in ("table", "wide", "markdown"):
        write(text(explanation, output))
    elif output == "csv":
        items = [] if explanation.decision is None else candidate_items(explanation.decision)
        emit(items, COLUMNS, output, kind="LiveExplanation")
    else:
        name = {"name": explanation.request_id}
        emit([name], [], output, kind="LiveExplanation", single=True, documents=[document(explanation)])


def _print_schema(name: str | None) -> None:
    from gridctl.render.rows import json_text
    from gridctl.render.schemas import result_kinds, schema_of

    if name is None:
        results = ", ".join(result_kinds())
        raise UsageError("say which schema", where="--schema", fix=f"gridctl explain site --schema; results: {results}")
    write(json_text(schema_of(name)))


def emit_explanation(path: str, output: str) -> None:
    """Print the fields below `path`, such as `site` or `site.serverless`."""
    from gridctl.manifest import explain

    emit(explain(path), _COLUMNS, output, kind="FieldList", name_key="field")


def _emit_kinds(output: str) -> None:
    from gridctl.resources import KINDS

    columns = (Column("noun", "kind"), Column("kind", "in manifests"), Column("description", "description"))
    rows = [{"noun": kind.noun, "kind": name, "description": kind.summary} for name, kind in KINDS.items()]
    emit(rows, columns, output, kind="KindList", name_key="noun")
