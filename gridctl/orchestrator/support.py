"""The support bundle: one ZIP file with what somebody far away needs to help, and nothing they must not see.

Decides what goes in: facts about the machine and the installation, the doctor's findings, the grid as declared, its
latest events, the orchestrator's state, metrics and log. Never in it: keys or digests of keys, texts of prompts or
answers, values of environment variables. Invariant: every part passes through `redaction` last, whatever it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gridctl import __version__
from gridctl.errors import GridctlError, InputError
from gridctl.orchestrator.context import GridHome, current_grid
from gridctl.orchestrator.redaction import known_secrets, redacted

MOST_EVENTS = 1_000
LOG_BYTES = 512 << 10
LARGEST_PART_BYTES = 16 << 20


class Part(NamedTuple):
    """One file of the bundle."""

    name: str
    about: str
    content: bytes


def gather(listen: str) -> list[Part]:
    """Every part, redacted. What cannot be had is a part that says why."""
    try:
        home: GridHome | None = current_grid()
    except GridctlError:
        home = None
    secrets = known_secrets(more=_credential_variables(home))
    parts = [
        _part(name, about, make, secrets)
        for name, about, make in (
            ("machine.json", "system, Python, packages, limits; names of variables, not their values", _machine),
            ("doctor.json", "what gridctl doctor finds", lambda: _doctor(listen)),
            *(_of_grid(home) if home is not None else ()),
        )
    ]
    listed = {part.name: part.about for part in parts}
    about = {"gridctl": __version__, "made": datetime.now(UTC).isoformat(timespec="seconds"), "parts": listed}
    first = Part("contents.json", "this list", _json(about))
    return [first, *parts]


def write_bundle(parts: list[Part], path: Path) -> None:
    """Write the ZIP file, whole or not at all, for its owner alone. Raises InputError when it is there already."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(zipfile.ZipInfo(part.name, (2020, 1, 1, 0, 0, 0)), part.content, zipfile.ZIP_DEFLATED)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InputError("there is a file of that name", where=f"--out {path}", fix="choose another name") from None
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=f"--out {path}", fix="write elsewhere") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(packed.getvalue())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"cannot write: {error.strerror}", where=f"--out {path}", fix="write elsewhere") from None


def default_name() -> str:
    """A file name by the time of day."""
    return f"gridctl-support-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}.zip"


def _part(name: str, about: str, make: Callable[[], str | bytes], secrets: tuple[str, ...]) -> Part:
    try:
        made = make()
        text = made.decode("utf-8", "replace") if isinstance(made, bytes) else made
    except GridctlError as error:
        text = f"not to be had: {error.what}\n"
    except Exception as error:
        text = f"not to be had: {type(error).__name__}: {error}\n"
    return Part(name, about, redacted(text[:LARGEST_PART_BYTES], secrets).encode())


def _of_grid(home: GridHome) -> Iterator[tuple[str, str, Callable[[], str | bytes]]]:
    yield "grid.yaml", "the grid as declared", lambda: _grid(home)
    yield "events.json", f"the latest {MOST_EVENTS} changes: who, when, what, why", lambda: _events(home)
    yield "status.json", "the orchestrator and its workers", lambda: _live(home, "/v1/status")
    yield "health.json", "what is wrong now", lambda: _live(home, "/v1/health")
    yield "metrics.txt", "counters and histograms", lambda: _metrics(home)
    if home.remote is None:
        yield "runs.json", "names and sizes of replays", lambda: _runs(home)
        yield "log.txt", "what the orchestrator said last", lambda: _log(home)
        yield "configuration.yaml", "the project's settings", lambda: _configuration(home)


def _machine() -> bytes:
    import resource
    from importlib import metadata

    packages = {one.metadata["Name"]: one.version for one in metadata.distributions() if one.metadata["Name"]}
    return _json(
        {
            "gridctl": __version__,
            "python": sys.version,
            "implementation": platform.python_implementation(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "locale": os.environ.get("LC_ALL") or os.environ.get("LANG") or "",
            "variables_set": sorted(name for name in os.environ if name.startswith(("GRIDCTL_", "XDG_", "NUMBA_"))),
            "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
        }
    )


def _doctor(listen: str) -> bytes:
    from gridctl.orchestrator.doctor import examine

    return _json([finding._asdict() for finding in examine(listen)])


def _grid(home: GridHome) -> str:
    from gridctl.manifest import dump

    with home.open_registry() as registry:
        return dump([stored.resource for stored in registry.all()], "yaml")


def _events(home: GridHome) -> bytes:
    with home.open_registry() as registry:
        return _json(msgspec.to_builtins(registry.events(limit=MOST_EVENTS)))


def _live(home: GridHome, path: str) -> bytes:
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return _json(client.get(path, dict[str, Any]))


def _metrics(home: GridHome) -> str:
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return client.metrics()


def _runs(home: GridHome) -> bytes:
    store = home.open_runs()
    runs = []
    for name in store.list():
        size = 0
        for folder, _, files in os.walk(home.runs / name):
            with contextlib.suppress(FileNotFoundError):  # it may be replaced or deleted meanwhile
                size += sum(Path(folder, file).stat().st_size for file in files)
        runs.append({"name": name, "bytes": size})
    return _json(runs)


def _log(home: GridHome) -> bytes:
    from gridctl.control.folder import LiveFolder
    from gridctl.orchestrator.detaching import LOG

    path = LiveFolder(home.database).log / LOG
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read()
    except FileNotFoundError:
        return b"no orchestrator was started with --detach\n"


def _configuration(home: GridHome) -> str:
    from gridctl.orchestrator.config import PROJECT_FILE

    path = home.folder / PROJECT_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else "no project file\n"


def _credential_variables(home: GridHome | None) -> list[str]:
    """Variables in which engines' credentials are."""
    from gridctl.orchestrator.live_client import TOKEN_VARIABLE
    from gridctl.resources import Cluster

    names = [TOKEN_VARIABLE]
    if home is not None:
        try:
            with home.open_registry() as registry:
                clusters = [one.resource for one in registry.list(Cluster)]
        except GridctlError:
            clusters = []
        for cluster in clusters:
            names += [one.credential_env for one in cluster.spec.deployments if one.credential_env]
    return names


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).encode() + b"\n"
