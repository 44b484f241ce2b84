"""The verbs every resource kind has: list, get, delete, export, explain. One grammar for every noun.

Decides the wording of their help from the kind itself, so a new kind has all of them at once.
"""

# No postponed annotations here: typer reads them, and those of the verbs below name variables of the enclosing call.

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption, SelectorOption, YesOption, complete_names
from gridctl.cli.output import OutputOption, emit, is_interactive, note, write
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.registry import Registry, Stored
    from gridctl.resources import Resource

SAMPLES = {
    "site": "pt-lisbon-01",
    "cluster": "madrid-rtx",
    "gpu": "l40s",
    "model": "llama-3.1-8b",
    "workload": "voice-agent",
    "policy": "default",
    "price": "default",
    "profile": "rtx-pro-6000.llama-3.1-8b.bf16.tp1",
    "link": "paris-london",
    "gate": "voice-p99",
}
"""A name of each noun for its help; all but the gate are in the metro example."""

ListNames = Callable[[typer.Context, str], list[str]]


def kind_app(kind: "type[Resource]") -> typer.Typer:
    """The noun's app, with the common verbs. A noun with verbs of its own adds them."""
    noun = kind.noun
    app = typer.Typer(help=f"{kind.summary[:1].upper()}{kind.summary[1:]}.", no_args_is_help=True, add_completion=False)
    names = complete_names(noun)
    for verb, summary, example, build in _VERBS:
        shown = example.format(name=SAMPLES[noun])
        text = f"{summary.format(noun=noun, plural=kind.plural)}\n\nExample:\n  gridctl {noun} {shown}"
        app.command(verb, help=text)(build(kind, names))
    return app


def emit_entries(
    registry: "Registry", kind: "type[Resource]", found: "Sequence[Stored]", output: str, *, single: bool = False
) -> None:
    """Print resources of one kind: rows for people, whole resources for machines."""
    from gridctl.orchestrator.resources import gpus_by_site
    from gridctl.render.kinds import columns_of, document, row_of

    if output in ("json", "jsonl", "yaml"):
        documents = [document(entry.resource) for entry in found]
        name = kind.__name__ if single else f"{kind.__name__}List"
        emit([{} for _ in found], (), output, kind=name, single=single, documents=documents)
        return
    gpus = gpus_by_site(registry) if kind.__name__ == "Site" else {}
    output = "wide" if single and output == "table" else output
    rows = [row_of(entry.resource, version=entry.version or None, gpus=gpus) for entry in found]
    emit(rows, columns_of(kind), output, kind=f"{kind.__name__}List", single=single)


def show(kind: "type[Resource]", names: Sequence[str], selectors: Sequence[str], output: str) -> None:
    """The one implementation of `get` and `list`, by noun or by kind."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import entries, entry_named

    if names and selectors:
        raise UsageError("names and a selector both choose", fix="give either names or -l")
    reason = f"no {kind.plural} yet; add some: gridctl apply -f FILE"
    with current_grid().open_registry() as registry:
        if names:
            found = [entry_named(registry, kind, name) for name in dict.fromkeys(names)]
        elif selectors:
            found, reason = _selected(registry, kind, selectors)
        else:
            found = entries(registry, kind)
        emit_entries(registry, kind, found, output, single=len(names) == 1)
    if not found:
        note(reason)


def _selected(registry: "Registry", kind: "type[Resource]", selectors: Sequence[str]) -> "tuple[list[Stored], str]":
    """What the selectors choose, and why it is nothing when it is."""
    from gridctl.orchestrator.resources import entries, select
    from gridctl.orchestrator.selector import explain_nothing, parse_selector

    selector = parse_selector(selectors)
    present = entries(registry, kind)
    reason = explain_nothing(selector, kind, [entry.resource for entry in present])
    return select(registry, kind, selector, present), reason


def remove(
    kind: "type[Resource]",
    names: Sequence[str],
    selectors: Sequence[str],
    output: str,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """The one implementation of `delete` by name or selector."""
    from gridctl.cli.changes import emit_deleted
    from gridctl.orchestrator import resources as service
    from gridctl.orchestrator.context import current_grid
    from gridctl.resources import ResourceKey

    home = current_grid()
    with home.open_registry() as registry:
        chosen = chosen_names(registry, kind, names, selectors)
        confirm(f"delete {len(chosen)} {kind.noun if len(chosen) == 1 else kind.plural}", yes=yes or dry_run)
        keys = [ResourceKey(kind.__name__, name) for name in chosen]
        deleted = service.delete(registry, keys, cause=f"{kind.noun} delete", dry_run=dry_run)
    emit_deleted(deleted, output, grid=home.folder, dry_run=dry_run)


def chosen_names(
    registry: "Registry", kind: "type[Resource]", names: Sequence[str], selectors: Sequence[str]
) -> list[str]:
    """Names given, or those a selector chooses; never nothing, never everything by accident.

    Raises: UsageError when neither or both are given, NotFoundError when the selector chooses nothing."""
    from gridctl.errors import NotFoundError
    from gridctl.orchestrator.resources import BUILT_IN

    if bool(names) == bool(selectors):
        raise UsageError(f"say which {kind.plural}", fix="give names, or -l with a selector")
    if names:
        return list(dict.fromkeys(names))
    selected, reason = _selected(registry, kind, selectors)
    found = [entry.resource.name for entry in selected if entry.version != BUILT_IN]
    if not found:
        raise NotFoundError(reason, where="-l/--selector", fix=f"see what there is: gridctl {kind.noun} list")
    return found


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person before destroying; scripts and pipelines are taken at their word. Raises: typer.Abort."""
    if not yes and is_interactive():
        typer.confirm(f"{question}?", abort=True, err=True)


def _list_verb(kind: "type[Resource]", names: ListNames) -> Callable[..., None]:
    def list_(selector: SelectorOption = None, output: OutputOption = "table") -> None:
        show(kind, (), selector or (), output)

    return list_


def _get_verb(kind: "type[Resource]", names: ListNames) -> Callable[..., None]:
    def get(
        name: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=names)],
        output: OutputOption = "table",
    ) -> None:
        show(kind, name, (), output)

    return get


def _delete_verb(kind: "type[Resource]", names: ListNames) -> Callable[..., None]:
    def delete(
        name: Annotated[list[str] | None, typer.Argument(metavar="NAME...", autocompletion=names)] = None,
        selector: SelectorOption = None,
        dry_run: DryRunOption = False,
        yes: YesOption = False,
        output: OutputOption = "table",
    ) -> None:
        remove(kind, name or (), selector or (), output, dry_run=dry_run, yes=yes)

    return delete


def _export_verb(kind: "type[Resource]", names: ListNames) -> Callable[..., None]:
    def export(
        output: Annotated[
            str, typer.Option("--output", "-o", metavar="FORMAT", help="yaml, json, jsonl or csv.")
        ] = "yaml",
    ) -> None:
        from gridctl.cli.export import export_text

        write(export_text([kind.noun], output))

    return export


def _explain_verb(kind: "type[Resource]", names: ListNames) -> Callable[..., None]:
    def explain(
        field: Annotated[str | None, typer.Argument(metavar="[FIELD]", help="A field, dotted when nested.")] = None,
        output: OutputOption = "table",
    ) -> None:
        from gridctl.cli.explain import emit_explanation

        emit_explanation(kind.noun if field is None else f"{kind.noun}.{field}", output)

    return explain


_VERBS: tuple[tuple[str, str, str, Callable[["type[Resource]", ListNames], Callable[..., None]]], ...] = (
    ("list", "List {plural}, all or those a selector chooses.", "list -o wide", _list_verb),
    ("get", "Show one or several {plural} by name.", "get {name} -o yaml", _get_verb),
    (
        "delete",
        "Delete {plural} by name or selector; refused while something refers to one.",
        "delete {name} --dry-run",
        _delete_verb,
    ),
    ("export", "Print every {noun} as manifests that apply again.", "export -o yaml", _export_verb),
    ("explain", "Describe the fields of a {noun}: type, range, default, meaning.", "explain", _explain_verb),
)
