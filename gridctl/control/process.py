"""The control process: everything one orchestrator needs, started in order and ended in the opposite one.

    grid read and checked → listeners → board → plan file → admin API → workers → control.json says ready

Anything that is wrong is said before the first worker starts. Invariant: whatever happens, what was made is taken away
again: sockets, shared memory, plan files, workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import msgspec

from gridctl.broker.plan import Plan, write_plan
from gridctl.broker.quota import make_quota_file
from gridctl.control.admin import admin_app
from gridctl.control.admin_server import AdminServer
from gridctl.control.certificates import Certificates
from gridctl.control.ending import Ending
from gridctl.control.folder import LiveFolder
from gridctl.control.history import History
from gridctl.control.keeper import Keeper
from gridctl.control.listening import Address, open_listener
from gridctl.control.live import Live
from gridctl.control.live_routes import ROUTES
from gridctl.control.observing import Observer, missing_credentials
from gridctl.control.order import Order, check_order
from gridctl.control.plans import board_workloads, enrol, plan_of, unplaced
from gridctl.control.questions import Questions
from gridctl.control.recordings import begin_recording
from gridctl.control.rollouts import Rollouts
from gridctl.control.salt import kept_salt
from gridctl.control.services import Declared, GridServices
from gridctl.control.supervisor import Facts, Supervisor
from gridctl.control.watching import Watch
from gridctl.signals.board import Board

Say = Callable[[str], None]
ATTEND_EVERY_S = 1.0


def prepared(order: Order, services: GridServices) -> tuple[Declared, Plan]:
    """The grid and the first plan of it, with everything checked that can be before anything starts."""
    import time

    declared = services.declared()
    now_ns = time.time_ns()
    keys = sum(1 for key in declared.keys if key.role == "client" and key.state(now_ns) == "active")
    check_order(order, keys)
    return declared, plan_of(declared, order, None)


def run(order: Order, services: GridServices, say: Say, ready: Callable[[Live], None]) -> None:
    """Serve until told to stop. `say` takes lines for the operator; `ready` is called once requests are served.

    Raises what `prepared` raises, InputError when an address is taken, Interrupted after a second signal."""
    declared, _ = prepared(order, services)
    folder = LiveFolder(order.database)
    folder.make()
    with folder.held():
        asyncio.run(_serve(order, services, folder, declared, say, ready))


async def _serve(
    order: Order,
    services: GridServices,
    folder: LiveFolder,
    declared: Declared,
    say: Say,
    ready: Callable[[Live], None],
) -> None:
    ending = Ending(order.grace_s)
    ending.listen()
    async with contextlib.AsyncExitStack() as stack:
        doors = await _open(stack, order, folder)
        plan_of(declared, order, None, own_ports=doors.own_ports())  # before anything is made: may it be served?
        live = _made(stack, order, services, folder, declared, doors, ending, say)
        for doubt in _doubts(live.plan):
            say(f"warning: {doubt}")
        live.tell()
        certificates = _serve_admin(stack, live, doors, say)
        stack.push_async_callback(live.supervisor.stop)
        path = folder.plan(live.plan.generation)
        await live.keeper.follow(path, live.plan)
        await ending.unless(asyncio.create_task(live.supervisor.start(path, live.plan.generation)))
        live.state = "ready"
        live.tell()
        watch = Watch(live, doors.own_ports(), say)
        live.record, live.renew_keys = watch.record, watch.renew_keys
        alongside = (watch.run(), live.observer.run(), live.history.run(), live.rollouts.run(live))
        for work in (*alongside, certificates.run(), live.keeper.run(), _attend(live)):
            await stack.enter_async_context(_alongside(work, say))
        ready(live)
        await ending.asked.wait()
        live.state = "draining"
        # Once the workers have closed it, too, new connections are refused at once instead of waiting for nobody.
        doors.requests.listener.close()
        live.tell()
        say(f"draining: requests under way have {ending.grace_s:g} s; a second signal ends now")
        await ending.unless(asyncio.create_task(live.supervisor.drain(ending.grace_s)), second=True)


class _Door(NamedTuple):
    """A socket that listens, and its address with the port it got."""

    listener: socket.socket
    address: Address


class _Doors(NamedTuple):
    """Where requests come in, and the admin API: its Unix socket first, then the further address, if there is one."""

    requests: _Door
    admin: tuple[_Door, ...]

    def own_ports(self) -> list[int]:
        """Ports that no engine can have."""
        return [door.address.port for door in (self.requests, *self.admin) if door.address.port]


async def _open(stack: contextlib.AsyncExitStack, order: Order, folder: LiveFolder) -> _Doors:
    requests = await stack.enter_async_context(_listening(order.listen, "--listen"))
    places = [Address(path=str(folder.socket)), *([order.admin] if order.admin is not None else [])]
    return _Doors(requests, tuple([await stack.enter_async_context(_listening(place, "--admin")) for place in places]))


def _made(
    stack: contextlib.AsyncExitStack,
    order: Order,
    services: GridServices,
    folder: LiveFolder,
    declared: Declared,
    doors: _Doors,
    ending: Ending,
    say: Say,
) -> Live:
    """Everything that serves, made and not yet started: plan file, shared memory, keeper, supervisor."""
    recording = begin_recording(order.recordings) if order.recordings is not None else None
    salt = kept_salt(folder.salt, renews=order.renews_salt)
    make_quota_file(folder.quota, order.workers)
    order = dataclasses.replace(
        order, settings=msgspec.structs.replace(order.settings, quota_file=str(folder.quota.absolute()))
    )
    plan = plan_of(declared, order, None, own_ports=doors.own_ports(), recording=recording, salt=salt)
    _raise_descriptor_limit()
    board = Board.create(_board_name(folder), order.workers, order.backends, board_workloads(declared))
    stack.callback(board.close)
    stack.callback(board.unlink)
    enrol(board, plan)
    write_plan(folder.plan(plan.generation), plan)
    keeper = Keeper(folder.path, board.name, say, order.shared)
    keeper.prepare()
    stack.push_async_callback(keeper.stop)
    flags = (*_worker_flags(order), *keeper.worker_flags())
    facts = Facts(order.program, board.name, doors.requests.listener.fileno(), flags)
    urls = [door.address.url(tls=order.tls is not None and not door.address.path) for door in doors.admin]
    live = Live(
        order=order,
        services=services,
        folder=folder,
        data_url=doors.requests.address.url(tls=order.tls is not None),
        admin=urls[0],
        admin_url=urls[1] if len(urls) > 1 else None,
        declared=declared,
        plan=plan,
        board=board,
        supervisor=Supervisor(facts, order.workers, board, say),
        observer=Observer(board),
        history=History(board, folder.history, say),
        questions=Questions(board),
        rollouts=Rollouts(folder.path, say, order.sync),
        recording=recording,
        keeper=keeper,
        stop=ending.ask,
    )
    stack.push_async_callback(live.rollouts.close)
    live.learn_keys(declared.keys)
    live.observer.follow(plan)
    return live


def _doubts(plan: Plan) -> Iterator[str]:
    """What an operator should know of a plan that can be served."""
    if (doubt := unplaced(plan)) is not None:
        yield doubt
    for name in missing_credentials(plan.backends):
        yield f"engines want a credential from the variable {name}, which is not set here"


def _serve_admin(stack: contextlib.AsyncExitStack, live: Live, doors: _Doors, say: Say) -> Certificates:
    """The admin API at its doors, from now on; returns the certificates it serves with."""
    app = admin_app(live, ROUTES)
    certificates = Certificates(live.order.tls, live.supervisor.renew_certificates, say)
    for listener, address in doors.admin:
        server = AdminServer(app, listener, None if address.path else live.order.tls)
        server.start()
        stack.push_async_callback(server.close)
        certificates.use(server.tls_context)
    return certificates


async def _attend(live: Live) -> None:
    """End workers that stand still, until cancelled."""
    while True:
        await asyncio.sleep(ATTEND_EVERY_S)
        live.supervisor.end_stuck(live.beat_ages_s(), live.order.stuck_after_s)


@contextlib.asynccontextmanager
async def _listening(wanted: Address, flag: str) -> AsyncIterator[_Door]:
    listener, address = open_listener(wanted, flag)
    try:
        yield _Door(listener, address)
    finally:
        listener.close()
        if address.path:
            with contextlib.suppress(OSError):
                os.unlink(address.path)


@contextlib.asynccontextmanager
async def _alongside(work: Coroutine[Any, Any, None], say: Say) -> AsyncIterator[None]:
    """Run `work` for as long as the block lasts. A failure of it is told; requests are served without it."""

    def done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            say(f"{task.get_coro().__qualname__} failed: {type(error).__name__}: {error}")  # type: ignore[union-attr]

    task = asyncio.create_task(work)
    task.add_done_callback(done)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _worker_flags(order: Order) -> tuple[str, ...]:
    """What a worker is told on its command line: what must not change while it lives."""
    words = ["--access-log", "-"] if order.log_requests else []
    if order.tls is not None:
        words += ["--tls-cert", str(order.tls.certificate), "--tls-key", str(order.tls.key)]
    return tuple(words)


def _board_name(folder: LiveFolder) -> str:
    """The same for every orchestrator of a grid, so that a new one takes the place of what a killed one left."""
    return f"gridctl-{os.getuid()}-{hashlib.sha256(os.fsencode(folder.path.resolve())).hexdigest()[:16]}"


def _raise_descriptor_limit() -> None:
    """Take as many open files as we may: a stream needs two. Workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
