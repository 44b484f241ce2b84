"""One resource from the command line: the flags' values become a resource, checked by the kind's own rules."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gridctl.cli.changes import emit_planned
from gridctl.errors import InputError
from gridctl.resources import API_VERSION, Resource

_FIELD = re.compile(r"\b(?:spec|metadata)\.(?P<field>\w+)")
_SOURCE = "flags.json"


def resource_from_flags(
    kind: type[Resource], name: str, labels: Mapping[str, str], spec: Mapping[str, object]
) -> Resource:
    """The resource. Raises: InputError naming the flag whose value the kind refuses."""
    import msgspec

    from gridctl.manifest import parse_manifest

    document = {
        "apiVersion": API_VERSION,
        "kind": kind.__name__,
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    try:
        (declared,) = parse_manifest(msgspec.json.encode(document), name=_SOURCE)
    except InputError as error:
        raise _at_flag(error, kind) from None
    return declared.resource


def register_one(
    kind: type[Resource],
    name: str,
    labels: Mapping[str, str],
    spec: Mapping[str, object],
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Add the resource the flags describe, and print what happened."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import register

    resource = resource_from_flags(kind, name, labels, spec)
    home = current_grid()
    with home.open_registry() as registry:
        planned = register(registry, resource, dry_run=dry_run)
    emit_planned(planned, output, grid=home.folder, dry_run=dry_run)


def _at_flag(error: InputError, kind: type[Resource]) -> InputError:
    """A manifest's error where the user wrote the value: at a flag instead of a line."""
    match = _FIELD.search(error.what)
    field = match["field"] if match is not None else ""
    where = {"": kind.noun, "name": "NAME", "labels": "--label", "deployments": "--deploy", "endpoints": "--endpoint"}
    return InputError(
        error.what,
        where=where.get(field, f"--{field.replace('_', '-')}"),
        fix=error.fix or f"see what it takes: gridctl explain {kind.noun}",
        related=[_at_flag(related, kind) for related in error.related if isinstance(related, InputError)],
    )
