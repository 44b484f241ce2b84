"""Live: what is so in a running orchestrator at this instant. The process writes it; the admin API reads it.

Data and what follows from it; it starts, stops and decides nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from gridctl import __version__
from gridctl.broker.plan import Plan
from gridctl.control.folder import ControlFile, LiveFolder
from gridctl.control.history import History
from gridctl.control.keeper import Keeper
from gridctl.control.messages import Status, WorkerStatus
from gridctl.control.observing import Observer
from gridctl.control.order import Order
from gridctl.control.questions import Questions
from gridctl.control.rollouts import Rollouts
from gridctl.control.services import Declared, GridServices
from gridctl.control.supervisor import Supervisor
from gridctl.health.facts import Facts
from gridctl.registry import AccessKey
from gridctl.signals.board import Board
from gridctl.units import NS_PER_MS, NS_PER_S

State = Literal["starting", "ready", "draining"]


@dataclass(slots=True)
class Live:
    """A running orchestrator. `declared` is what `plan` was made from; `problem` says why a later state of the grid is
    not served; `keys` are those of `declared` by digest. `admin` is the Unix socket, `admin_url` a further address."""

    order: Order
    services: GridServices
    folder: LiveFolder
    data_url: str
    admin: str
    declared: Declared
    plan: Plan
    board: Board
    supervisor: Supervisor
    observer: Observer
    history: History
    questions: Questions
    keeper: Keeper
    rollouts: Rollouts
    stop: Callable[[float | None], None]
    state: State = "starting"
    problem: str | None = None
    recording: Path | None = None
    record: Callable[[Path | None], Awaitable[None]] | None = None
    renew_keys: Callable[[], Awaitable[None]] | None = None
    admin_url: str | None = None
    started_unix_ns: int = field(default_factory=time.time_ns)
    keys: dict[str, AccessKey] = field(default_factory=dict)

    def take(self, declared: Declared, plan: Plan) -> None:
        """Serve another state of the grid from now on."""
        self.declared, self.problem = declared, None
        if plan is not self.plan:
            self.plan = plan
            self.observer.follow(plan)
        self.learn_keys(declared.keys)

    def learn_keys(self, keys: tuple[AccessKey, ...]) -> None:
        """Know these keys and no others."""
        self.keys = {key.digest: key for key in keys}

    def tell(self) -> None:
        """Have the folder tell of this orchestrator as it is now."""
        self.folder.write(self.control_file())

    def control_file(self) -> ControlFile:
        """What the folder tells of this orchestrator."""
        return ControlFile(
            pid=os.getpid(),
            state=self.state,
            data_url=self.data_url,
            admin=self.admin,
            admin_url=self.admin_url,
            board=self.board.name,
            workers=self.order.workers,
            version=__version__,
            started_unix_ns=self.started_unix_ns,
        )

    def facts(self) -> Facts:
        """What the screens of health are made from, as of now."""
        return Facts(
            grid=self.order.grid,
            now_ns=time.monotonic_ns(),
            now_unix_ns=time.time_ns(),
            resources=self.plan.resources,
            engines=self.plan.backends,
            conditions=self.observer.conditions,
            outcomes={row: tuple(outcomes) for row, outcomes in self.observer.outcomes.items()},
            panics=self.observer.panics,
            suspects=self.observer.suspects,
            board=self.board,
            series=self.history.series,
            price_book=self.plan.price_book,
            notices=tuple(self._notices()),
        )

    def _notices(self) -> Iterator[tuple[str, str]]:
        """Troubles of the orchestrator itself, each with what to do."""
        if self.problem:
            yield f"the grid as it is now is not served: {self.problem}", "correct it and apply; see: gridctl status"
        gone = sum(1 for worker in self.supervisor.describe() if worker["state"] != "ready")
        if gone and self.state == "ready":
            yield f"{gone} of {self.order.workers} workers do not serve", "see why: what gridctl up says"

    def status(self) -> Status:
        """What the orchestrator tells of itself."""
        now_ns = time.time_ns()
        return Status(
            grid=self.order.grid,
            state=self.state,
            version=__version__,
            pid=os.getpid(),
            started_unix_ns=self.started_unix_ns,
            data_url=self.data_url,
            admin=self.admin,
            admin_url=self.admin_url,
            policy=self.plan.policy,
            price_book=self.plan.price_book,
            generation=self.plan.generation,
            registry_version=self.declared.version,
            backends=len(self.plan.backends),
            sites=len({backend.site for backend in self.plan.backends}),
            keys=sum(1 for key in self.keys.values() if key.role == "client" and key.state(now_ns) == "active"),
            anonymous=self.plan.settings.anonymous,
            cache=self.keeper.in_a_word,
            recordings=str(self.recording) if self.recording is not None else None,
            workers=self._workers(),
            problem=self.problem,
        )

    def beat_ages_s(self) -> dict[int, float]:
        """Seconds since each worker last said that it lives; of those that have."""
        now_ns = time.monotonic_ns()
        beats = self.board.heartbeats["beat_ns"].tolist()
        return {worker: max(0, now_ns - beat_ns) / NS_PER_S for worker, beat_ns in enumerate(beats) if beat_ns}

    def _workers(self) -> tuple[WorkerStatus, ...]:
        ages_s = self.beat_ages_s()
        workers = []
        for known in self.supervisor.describe():
            status = msgspec.convert(known, WorkerStatus)
            beat = self.board.heartbeats[status.worker]
            if status.worker in ages_s:
                status = msgspec.structs.replace(
                    status,
                    in_flight=int(beat["in_flight"]),
                    connections=int(beat["connections"]),
                    loop_lag_ms=int(beat["loop_lag_ns"]) / NS_PER_MS,
                    beat_age_s=ages_s[status.worker],
                )
            workers.append(status)
        return tuple(workers)
