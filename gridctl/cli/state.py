"""The verbs that change whether a site or cluster takes traffic: cordon, drain, uncordon."""

# No postponed annotations here: typer reads them, and those of the verbs below name variables of the enclosing call.

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption, ReasonOption, SelectorOption, complete_names
from gridctl.cli.output import OutputOption

if TYPE_CHECKING:
    from gridctl.orchestrator.resources import StateName
    from gridctl.resources import Resource

_VERBS: tuple[tuple[str, "StateName", str], ...] = (
    ("cordon", "cordoned", "Send no new requests to {plural}; what runs there goes on."),
    ("drain", "draining", "Send no new requests to {plural} and mark them as being emptied."),
    ("uncordon", "active", "Let {plural} take traffic again."),
)


def add_state_verbs(app: typer.Typer, kind: "type[Resource]") -> None:
    """Add cordon, drain and uncordon to a noun whose kind has a state."""
    from gridctl.cli.kind import SAMPLES

    for verb, state, summary in _VERBS:
        text = (
            f"{summary.format(plural=kind.plural)} All of them change, or none.\n\n"
            f"Example:\n  gridctl {kind.noun} {verb} {SAMPLES[kind.noun]} --reason 'power maintenance'"
        )
        app.command(verb, help=text)(_state_verb(kind, verb, state))


def _state_verb(kind: "type[Resource]", verb: str, state: "StateName") -> Callable[..., None]:
    names = complete_names(kind.noun)

    def change(
        name: Annotated[list[str] | None, typer.Argument(metavar="NAME...", autocompletion=names)] = None,
        selector: SelectorOption = None,
        reason: ReasonOption = None,
        dry_run: DryRunOption = False,
        output: OutputOption = "table",
    ) -> None:
        cause = f"{kind.noun} {verb}" + (f": {reason}" if reason else "")
        _change_state(kind, name or (), selector or (), state, output, cause=cause, dry_run=dry_run)

    return change


def _change_state(
    kind: "type[Resource]",
    names: Sequence[str],
    selectors: Sequence[str],
    state: "StateName",
    output: str,
    *,
    cause: str,
    dry_run: bool,
) -> None:
    from gridctl.cli.changes import emit_planned
    from gridctl.cli.kind import chosen_names
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import set_state

    home = current_grid()
    with home.open_registry() as registry:
        chosen = chosen_names(registry, kind, names, selectors)
        planned = set_state(registry, kind, chosen, state, cause=cause, dry_run=dry_run)
    emit_planned(planned, output, grid=home.folder, dry_run=dry_run)
