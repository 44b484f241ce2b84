"""The live orchestrator's services: what `up`, `down` and `status` mean for a grid on this machine.

Decides nothing about requests; it lends the control process the very services behind the command line, and finds the
process that runs for a grid.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridctl.errors import InputError, NotFoundError, UnreachableError
from gridctl.orchestrator import resources as service
from gridctl.orchestrator.context import GridHome
from gridctl.resources import Gate, PriceBook, Resource, ResourceKey, key_of

if TYPE_CHECKING:
    from gridctl.broker.dry_run import Question
    from gridctl.broker.plan import Plan
    from gridctl.control.folder import ControlFile
    from gridctl.control.live import Live
    from gridctl.control.order import Order
    from gridctl.control.services import Declared
    from gridctl.registry import Planned, Registry
    from gridctl.routing.decision import Decision

DEFAULT_PRICES = "default"
POLL_S = 0.05


class LocalServices:
    """`control.services.GridServices` over the registry of a grid's home."""

    def __init__(self, home: GridHome, policy: str | None, price_book: str | None) -> None:
        self._home = home
        self._policy = policy
        self._price_book = price_book

    def open_registry(self, actor: str | None) -> Registry:
        from gridctl.registry import Registry

        return Registry.open(self._home.database, actor=actor)

    def declared(self) -> Declared:
        from gridctl.control.services import Declared
        from gridctl.orchestrator.policies import choose_policy

        with self.open_registry(None) as registry:
            version = registry.version()
            resources = [stored.resource for stored in registry.all()]
            keys = tuple(registry.access_keys())
        service.check_whole(resources)
        policy = choose_policy(resources, self._policy)
        others = [one for one in resources if key_of(one) != key_of(policy)]
        prices = self._checked_prices(resources)
        return Declared(version, (*others, policy), policy.name, prices, keys)

    def apply(
        self,
        registry: Registry,
        resources: Sequence[Resource],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None,
        dry_run: bool,
    ) -> list[Planned]:
        _check_gates(resources)
        if expected is None:
            return service.apply_resources(registry, resources, cause=cause, dry_run=dry_run).planned
        if dry_run:
            return registry.plan(resources, check=service.check_whole)
        return registry.apply(resources, cause=cause, expected=expected, check=service.check_whole)

    def delete(
        self,
        registry: Registry,
        keys: Sequence[ResourceKey],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None,
        dry_run: bool,
    ) -> list[Resource]:
        return service.delete(registry, keys, cause=cause, dry_run=dry_run, expected=expected)

    def _checked_prices(self, resources: Sequence[Resource]) -> str:
        from gridctl.errors import did_you_mean

        if self._price_book is None:
            return DEFAULT_PRICES
        names = [resource.name for resource in resources if isinstance(resource, PriceBook)]
        if self._price_book not in names:
            near = did_you_mean(self._price_book, names)
            raise NotFoundError(
                f"there is no price book {self._price_book}",
                where="--price-book",
                fix=f"did you mean {near}?" if near else "see them: gridctl price list",
            )
        return self._price_book


class Preview(NamedTuple):
    """What `gridctl up` would serve."""

    plan: Plan
    order: Order


def preview(order: Order, services: LocalServices) -> Preview:
    """Check everything that can be before anything starts. Raises what would be wrong."""
    from gridctl.control.process import prepared

    _, plan = prepared(order, services)
    return Preview(plan, order)


def up(order: Order, services: LocalServices, say: Callable[[str], None], ready: Callable[[Live], None]) -> None:
    """Serve in this process until told to stop."""
    from gridctl.control.process import run

    run(order, services, say, ready)


def running(home: GridHome) -> ControlFile | None:
    """The orchestrator that runs for the grid on this machine, or None."""
    from gridctl.control.folder import LiveFolder

    return LiveFolder(home.database).running()


def running_or_fail(home: GridHome) -> ControlFile:
    """The orchestrator that runs for the grid. Raises UnreachableError."""
    found = running(home)
    if found is None:
        raise UnreachableError(
            "no orchestrator runs for this grid", where=str(home.folder), fix="start it: gridctl up --detach"
        )
    return found


def down(home: GridHome, *, grace_s: float | None, now: bool, say: Callable[[str], None]) -> ControlFile | None:
    """Stop the orchestrator of this grid and wait until it has ended; None when none runs.

    Raises UnreachableError when it does not end in its grace and a little more."""
    found = running(home)
    if found is None:
        return None
    limit_s = 15.0 + _ask_to_stop(home, found, grace_s)
    if now:
        _signal(found.pid, signal.SIGTERM)
        limit_s = 15.0
    deadline = time.monotonic() + limit_s
    said = False
    while (still := running(home)) is not None and still.pid == found.pid:
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"the orchestrator (process {found.pid}) does not end",
                where=str(home.folder),
                fix=f"look at what it says in {home.database.parent / 'live' / 'log'}; then: kill -9 {found.pid}",
            )
        if not said and time.monotonic() > deadline - limit_s + 2.0:
            say("waiting for requests under way to end")
            said = True
        time.sleep(POLL_S)
    return found


def route_test_live(home: GridHome, question: Question) -> Decision | None:
    """Where the running orchestrator would send such a request now; None when none runs for the grid."""
    from gridctl.control.messages import RouteTestMessage
    from gridctl.orchestrator.live_client import client_of

    if home.remote is None and running(home) is None:
        return None
    asked = RouteTestMessage(
        workload=question.workload,
        origin=question.origin,
        model=question.model,
        tenant=question.tenant,
        prompt_tokens=question.prompt_tokens,
        output_tokens=question.output_tokens,
    )
    with client_of(home) as client:
        return client.route_test(asked)


def stop_elsewhere(home: GridHome, grace_s: float | None, *, dry_run: bool) -> int:
    """Stop the orchestrator of a context; its process's number there."""
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return client.status().pid if dry_run else client.stop(grace_s).pid


def _ask_to_stop(home: GridHome, found: ControlFile, grace_s: float | None) -> float:
    """Ask through the admin API, which knows the grace; the seconds that gives. Without an API, a signal."""
    from gridctl.errors import GridctlError
    from gridctl.orchestrator.live_client import local_client

    try:
        with local_client(home) as client:
            return client.stop(grace_s).grace_s
    except GridctlError:
        _signal(found.pid, signal.SIGTERM)
        return 60.0 if grace_s is None else grace_s


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise InputError(
            f"process {pid} belongs to another account", where="gridctl down", fix="run it as the one that started it"
        ) from None


def origins_from(path: Path) -> tuple[tuple[str, str], ...]:
    """Networks and their places from a CSV file: `cidr,place` lines, a header or not. Raises InputError at its line."""
    import csv
    import ipaddress

    found: list[tuple[str, str]] = []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.reader(lines), start=1):
                cells = [cell.strip() for cell in row]
                if not any(cells) or cells[0].startswith("#") or (number == 1 and cells[0].lower() == "cidr"):
                    continue
                where = f"{path}:{number}"
                if len(cells) < 2 or not cells[1]:
                    raise InputError("a network without a place", where=where, fix="write 10.0.0.0/8,fr-paris-01")
                try:
                    network = ipaddress.ip_network(cells[0], strict=True)
                except ValueError as error:
                    raise InputError(f"not a network: {error}", where=where, fix="write 10.0.0.0/8,PLACE") from None
                found.append((str(network), ",".join(cells[1:]).strip()))
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=f"--origins {path}", fix="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read: {error}", where=f"--origins {path}") from None
    return tuple(found)


def _check_gates(resources: Sequence[Resource]) -> None:
    """Refuse gates that no run could decide, as `gridctl apply` does."""
    from gridctl.errors import raise_all
    from gridctl.resources.gate_expression import problems

    raise_all(
        [
            InputError(f"gate {resource.name}: {what}", where=f"gate {resource.name}, spec.value", fix=fix)
            for resource in resources
            if isinstance(resource, Gate)
            for what, fix in problems(resource.spec)
        ]
    )
