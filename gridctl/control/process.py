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
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from gridctl.broker.plan import Plan, write_plan
from gridctl.broker.quota import make_quota_file
from gridctl.control.admin import admin_app
from gridctl.control.admin_server import AdminServer
from gridctl.control.certificates import Certificates
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
from gridctl.errors import Interrupted
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
    declared, plan = prepared(order, services)
    folder = LiveFolder(order.database)
    folder.make()
    with folder.held():
        asyncio.run(_serve(order, services, folder, declared, plan, say, ready))


async def _serve(
    order: Order,
    services: GridServices,
    folder: LiveFolder,
    declared: Declared,
    plan: Plan,
    say: Say,
    ready: Callable[[Live], None],
) -> None:
    ending = _Ending(order.grace_s)
    ending.listen()
    async with contextlib.AsyncExitStack() as stack:
        listener, listen = await stack.enter_async_context(_listening(order.listen, "--listen"))
        places = [Address(path=str(folder.socket)), *([order.admin] if order.admin is not None else [])]
        admins = [await stack.enter_async_context(_listening(place, "--admin")) for place in places]
        own_ports = [address.port for address in (listen, *(place for _, place in admins)) if address.port]
        plan = plan_of(declared, order, None, own_ports=own_ports)  # before anything is made: may it be served?
        recording = begin_recording(order.recordings) if order.recordings is not None else None
        salt = kept_salt(folder.salt, renews=order.renews_salt)
        make_quota_file(folder.quota, order.workers)
        order = dataclasses.replace(
            order, settings=msgspec.structs.replace(order.settings, quota_file=str(folder.quota.absolute()))
        )
        plan = plan_of(declared, order, None, own_ports=own_ports, recording=recording, salt=salt)
        _raise_descriptor_limit()
        board = Board.create(_board_name(folder), order.workers, order.backends, board_workloads(declared))
        stack.callback(board.close)
        stack.callback(board.unlink)
        enrol(board, plan)
        path = folder.plan(plan.generation)
        write_plan(path, plan)
        keeper = Keeper(folder.path, board.name, say, order.shared)
        keeper.prepare()
        stack.push_async_callback(keeper.stop)
        facts = Facts(order.program, board.name, listener.fileno(), (*_worker_flags(order), *keeper.worker_flags()))
        supervisor = Supervisor(facts, order.workers, board, say)
        live = Live(
            order=order,
            services=services,
            folder=folder,
            data_url=listen.url(tls=order.tls is not None),
            admin=admins[0][1].url(),
            admin_url=admins[1][1].url(tls=order.tls is not None) if order.admin is not None else None,
            declared=declared,
            plan=plan,
            board=board,
            supervisor=supervisor,
            observer=Observer(board),
            history=History(board, folder.history, say),
            questions=Questions(board),
            recording=recording,
            keeper=keeper,
            stop=ending.ask,
        )
        live.learn_keys(declared.keys)
        live.observer.follow(plan)
        live.rollouts = Rollouts(folder.path, say, order.sync)
        stack.push_async_callback(live.rollouts.close)
        if (doubt := unplaced(plan)) is not None:
            say(f"warning: {doubt}")
        for name in missing_credentials(plan.backends):
            say(f"warning: engines want a credential from the variable {name}, which is not set here")
        folder.write(live.control_file())
        app = admin_app(live, ROUTES)
        certificates = Certificates(order.tls, supervisor.renew_certificates, say)
        for admin_listener, admin in admins:
            server = AdminServer(app, admin_listener, None if admin.path else order.tls)
            server.start()
            stack.push_async_callback(server.close)
            certificates.use(server.tls_context)
        stack.push_async_callback(supervisor.stop)
        await keeper.follow(path, plan)
        starting = asyncio.create_task(supervisor.start(path, plan.generation))
        await ending.unless(starting)
        live.state = "ready"
        folder.write(live.control_file())
        watch = Watch(live, own_ports, say, lambda: folder.write(live.control_file()))
        live.record = watch.record
        live.renew_keys = watch.renew_keys
        alongside = (watch.run(), live.observer.run(), live.history.run(), live.rollouts.run(live))
        for work in (*alongside, certificates.run(), keeper.run(), _attend(live)):
            await stack.enter_async_context(_alongside(work, say))
        ready(live)
        await ending.asked.wait()
        live.state = "draining"
        # Once the workers have closed it, too, new connections are refused at once instead of waiting for nobody.
        listener.close()
        folder.write(live.control_file())
        say(f"draining: requests under way have {ending.grace_s:g} s; a second signal ends now")
        await ending.unless(asyncio.create_task(supervisor.drain(ending.grace_s)), second=True)


async def _attend(live: Live) -> None:
    """End workers that stand still, until cancelled."""
    while True:
        await asyncio.sleep(ATTEND_EVERY_S)
        live.supervisor.end_stuck(live.beat_ages_s(), live.order.stuck_after_s)


class _Ending:
    """When to stop: a signal or a call of the admin API asks for it, a second signal insists."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.asked = asyncio.Event()
        self._insisted = asyncio.Event()

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def ask(self, grace_s: float | None) -> None:
        """Stop, with that grace."""
        if grace_s is not None:
            self.grace_s = grace_s
        self.asked.set()

    async def unless(self, work: asyncio.Task[None], *, second: bool = False) -> None:
        """Wait for `work`; cancel it when the end is asked for (`second`: insisted on). Raises Interrupted then."""
        end = asyncio.create_task((self._insisted if second else self.asked).wait())
        await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if work.done():
            await work
            return
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        what = "ended at once: requests under way were cut off" if second else "stopped before it was ready"
        raise Interrupted(what)

    def _signalled(self) -> None:
        if self.asked.is_set():
            self._insisted.set()
        self.asked.set()


@contextlib.asynccontextmanager
async def _listening(wanted: Address, flag: str) -> AsyncIterator[tuple[socket.socket, Address]]:
    listener, address = open_listener(wanted, flag)
    try:
        yield listener, address
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
