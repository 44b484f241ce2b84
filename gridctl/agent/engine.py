"""Engine: the site's inference engine, told to load a version and asked whether it is well.

Decides how it is told (a command without a shell, or a POST) and how long it may take. A site without either only
holds files, and its engine counts as well. Must not know why a version is loaded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.agent.order import Order
from gridctl.agent.probing import Answered, ask_all
from gridctl.errors import GridctlError
from gridctl.rollout.protocol import Version

if TYPE_CHECKING:
    import httpx

POLL_S = 0.25
HEALTH_S = 5.0
"""Seconds an engine may take to say that it is well."""
MAX_OUTPUT = 400
"""Characters of a failed command's last words that are told."""
ENDING_S = 5.0


class EngineError(GridctlError):
    """The engine did not load a version, or is not well with it."""

    exit_code = 5


class Engine:
    """One site's engine."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._client: httpx.Client | None = None

    @property
    def is_told(self) -> bool:
        """Whether anything is told to an engine."""
        return bool(self._order.reload_command or self._order.reload_url)

    def load(self, model: str, version: Version | None, folder: Path | None, stop: threading.Event) -> None:
        """Have the engine serve this version (None: nothing of the model) and wait until it is well.

        Raises: EngineError, and at once when `stop` is set."""
        facts = {
            "model": model,
            "variant": version.variant if version is not None else "",
            "digest": version.digest if version is not None else "",
            "folder": str(folder) if folder is not None else "",
        }
        if self._order.reload_command:
            self._run(facts, stop)
        if self._order.reload_url:
            self._post(self._order.reload_url, facts)
        if version is not None:
            self._wait_until_well(stop)

    def is_well(self) -> bool:
        """Whether the engine says so; without an address of it, nobody can say otherwise."""
        import httpx

        if self._order.engine_url is None:
            return True
        try:
            return self._http().get(f"{self._order.engine_url}/health", timeout=HEALTH_S).status_code == 200
        except httpx.HTTPError:
            return False

    def probe(self) -> list[Answered]:
        """The answers to the probes; none without probes or an address."""
        if self._order.engine_url is None or not self._order.probes:
            return []
        return ask_all(self._order.engine_url, self._order.probes, self._http())

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _http(self) -> httpx.Client:
        import httpx

        if self._client is None:
            self._client = httpx.Client(trust_env=False, headers={"user-agent": "gridctl-agent"})
        return self._client

    def _wait_until_well(self, stop: threading.Event) -> None:
        deadline = time.monotonic() + self._order.ready_s
        while not self.is_well():
            if stop.is_set():
                raise EngineError("the agent was stopped while the engine loaded", where="engine")
            if time.monotonic() > deadline:
                raise EngineError(f"the engine was not well within {self._order.ready_s:g} s", where="engine")
            stop.wait(POLL_S)

    def _run(self, facts: dict[str, str], stop: threading.Event) -> None:
        """The command, in a group of its own so that all of it can be ended, its output bounded."""
        environment = {**os.environ, **{f"GRIDCTL_{key.upper()}": value for key, value in facts.items()}}
        try:
            process = subprocess.Popen(
                self._order.reload_command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"the reload command does not start: {error.strerror}", where="--reload-command"
            ) from None
        said = _Tail(process)
        deadline = time.monotonic() + self._order.hook_s
        while process.poll() is None:
            if time.monotonic() > deadline or stop.wait(POLL_S / 5):
                _end(process)
                what = "was stopped" if stop.is_set() else f"took over {self._order.hook_s:g} s"
                raise EngineError(f"the reload command {what}", where="--reload-command")
        if process.returncode != 0:
            raise EngineError(
                f"the reload command ended with {process.returncode}: {said.text()}", where="--reload-command"
            )

    def _post(self, url: str, facts: dict[str, str]) -> None:
        import httpx

        try:
            response = self._http().post(url, json=facts, timeout=self._order.hook_s)
        except httpx.HTTPError as error:
            raise EngineError(f"the reload URL does not answer: {type(error).__name__}", where="--reload-url") from None
        if not 200 <= response.status_code < 300:
            raise EngineError(f"the reload URL answers {response.status_code}", where="--reload-url")


class _Tail:
    """The last of what a process says, read as it comes so that it never blocks on a full pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._held = b""
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """One line of it."""
        self._thread.join(1.0)
        return " ".join(self._held.decode("utf-8", "replace").split())[-MAX_OUTPUT:]

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            while piece := os.read(stream.fileno(), 65_536):
                self._held = (self._held + piece)[-4 * MAX_OUTPUT :]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(ENDING_S)
            return
        except subprocess.TimeoutExpired:
            continue
    process.wait(ENDING_S)
