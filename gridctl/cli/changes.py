"""How planned and applied changes read: a row for each resource, or counts when there are many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridctl.cli.output import emit, note
from gridctl.render.rows import Column, Item

if TYPE_CHECKING:
    from pathlib import Path

    from gridctl.registry import Planned
    from gridctl.resources import Resource

ROWS_AT_MOST = 20
"""More resources than this print as counts per kind, unless the format is for machines or `wide`."""

DONE = {"create": "created", "update": "updated", "unchanged": "unchanged", "delete": "deleted"}
WOULD = {"create": "would create", "update": "would update", "unchanged": "unchanged", "delete": "would delete"}
NOUNS = ("create", "update", "unchanged", "delete")

_ROWS = (
    Column("kind", "kind"),
    Column("name", "name"),
    Column("action", "action"),
    Column("fields", "fields", wide=True),
)
_COUNTS = (
    Column("kind", "kind"),
    *(Column(DONE[action], DONE[action], align="right") for action in NOUNS[:3]),
)


def emit_planned(planned: Sequence[Planned], output: str, *, grid: Path, dry_run: bool) -> None:
    """Rows of what was or would be done on stdout, a summary on stderr."""
    words = WOULD if dry_run else DONE
    if output == "table" and len(planned) > ROWS_AT_MOST:
        emit(_counts(planned), _COUNTS, output, kind="ChangeCountList", name_key="kind")
    else:
        rows: list[Item] = [
            {
                "kind": step.resource.kind,
                "name": step.resource.name,
                "action": words[step.action],
                "fields": [change.path for change in step.diff] if step.action == "update" else [],
            }
            for step in planned
        ]
        emit(rows, _ROWS, output, kind="ChangeList")
    _summarise(Counter(step.action for step in planned), words, grid, dry_run=dry_run)


def emit_deleted(resources: Sequence[Resource], output: str, *, grid: Path, dry_run: bool) -> None:
    """Rows of what was or would be deleted."""
    words = WOULD if dry_run else DONE
    rows: list[Item] = [
        {"kind": resource.kind, "name": resource.name, "action": words["delete"], "fields": []}
        for resource in resources
    ]
    emit(rows, _ROWS, output, kind="ChangeList")
    _summarise(Counter(delete=len(resources)), words, grid, dry_run=dry_run)


def _counts(planned: Sequence[Planned]) -> list[Item]:
    counts: dict[str, Counter[str]] = {}
    for step in planned:
        counts.setdefault(step.resource.kind, Counter())[step.action] += 1
    return [{"kind": kind, **{DONE[action]: found[action] for action in NOUNS[:3]}} for kind, found in counts.items()]


def _summarise(counts: Counter[str], words: dict[str, str], grid: Path, *, dry_run: bool) -> None:
    parts = [f"{counts[action]} {words[action]}" for action in NOUNS if counts[action]]
    done = ", ".join(parts) or "nothing to do"
    note(f"{done} in grid {grid.name}" + (" (dry run: nothing was written)" if dry_run else ""))
