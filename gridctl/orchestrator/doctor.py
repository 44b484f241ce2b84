"""The doctor: looks at the machine, the installation, the grid and its engines, and says what is wrong and what helps.

Decides verdicts, changes nothing. Each check stands alone: one that fails in a way nobody foresaw is a finding of its
own and stops no other. Reading only; sockets are opened to the grid's own engines and orchestrator, and to nobody else.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gridctl import __version__
from gridctl.errors import GridctlError, NotFoundError
from gridctl.orchestrator.context import GridHome, current_grid
from gridctl.units import GIB, NS_PER_S

if TYPE_CHECKING:
    from gridctl.broker.plan import Backend
    from gridctl.health.outcome import Outcome
    from gridctl.orchestrator.live_client import LiveClient

Verdict = Literal["OK", "WARN", "FAIL"]
OLDEST_PYTHON = (3, 11)
FIXED_SQLITE = (3, 51, 3)
"""SQLite's release that repaired the reset of a write-ahead log by two connections at once."""
LOW_DISK_BYTES = GIB
FULL_DISK_BYTES = 100 << 20
FEW_FILES = 4_096
WANTED_FILES = 65_536
SHARED_MEMORY_BYTES = 64 << 20
CLOCK_SLACK_S = 5
MOST_ENGINES = 1_024
PROBE_TIMEOUT_S = 3.0


class Finding(NamedTuple):
    """One thing looked at: its verdict, what was found, and what to do unless it is OK."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


def examine(listen: str, *, engines: bool = True) -> list[Finding]:
    """Every finding, in order of the checks. `listen` is where requests would come in; `engines`: probe them."""
    findings = _all(
        ("python", _python),
        ("dependencies", _dependencies),
        ("configuration", _configuration),
        ("compiled code", _kernels),
        ("open files", _open_files),
        ("shared memory", _shared_memory),
    )
    try:
        home = current_grid()
    except GridctlError as error:
        fix = error.fix or ""
        verdict: Verdict = "WARN" if isinstance(error, NotFoundError) else "FAIL"
        return [*findings, Finding("grid", verdict, error.what, fix)]
    if home.remote is not None:
        return [*findings, *_all(("orchestrator", lambda: _elsewhere(home)))]
    findings += _all(
        ("database", lambda: _database(home)),
        ("sqlite", _sqlite),
        ("permissions", lambda: _permissions(home)),
        ("disk", lambda: _disk(home)),
        ("clock", lambda: _clock(home)),
        ("orchestrator", lambda: _orchestrator(home)),
        ("port", lambda: _port(home, listen)),
    )
    if engines:
        findings += _all(("engines", lambda: _engines(home)))
    return findings


def _all(*checks: tuple[str, Callable[[], Iterator[Finding]]]) -> list[Finding]:
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except GridctlError as error:
            where = f" ({error.where})" if error.where else ""
            findings.append(Finding(name, "FAIL", f"{error.what}{where}", error.fix or ""))
        except Exception as error:
            findings.append(
                Finding(name, "FAIL", f"the check itself failed: {type(error).__name__}: {error}", "report it")
            )
    return findings


# ── this installation ───────────────────────────────────────────────────────────────────────────────────────────────


def _python() -> Iterator[Finding]:
    found = f"gridctl {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("python", "FAIL", found, "install Python 3.11 or newer")
    elif sys.platform == "win32":
        yield Finding("python", "FAIL", f"{found}: the orchestrator needs a Unix", "run it in WSL or in a container")
    else:
        yield Finding("python", "OK", found)


def _dependencies() -> Iterator[Finding]:
    from gridctl.orchestrator.requirements import installed

    found = installed()
    if found is None:
        yield Finding("dependencies", "OK", "run from its source folder: not checked")
    elif found.problems:
        fix = "install gridctl anew: pip install --upgrade gridctl"
        yield Finding("dependencies", "FAIL", "; ".join(found.problems), fix)
    else:
        yield Finding("dependencies", "OK", f"{found.looked_at} packages, each in a version that fits")


def _configuration() -> Iterator[Finding]:
    """The user's file can be read, and tokens it refers to are nobody else's to read."""
    from gridctl.orchestrator.config import read_config, settings, user_file
    from gridctl.orchestrator.context import TOKENS_KEY, contexts

    path = user_file()
    settings()
    count = len(contexts())
    yield Finding(
        "configuration", "OK", f"{path}: {count} contexts" if path.exists() else f"{path}: none, and none needed"
    )
    references = read_config(path).get(TOKENS_KEY, {})
    for name, reference in references.items() if isinstance(references, dict) else ():
        file = Path(reference.removeprefix("file:")).expanduser()
        if not reference.startswith("file:"):
            continue
        if not file.is_file():
            yield Finding("configuration", "WARN", f"the token of context {name} is not at {file}", "put it there")
        elif file.stat().st_mode & 0o077:
            yield Finding("configuration", "FAIL", f"others can read the token {file}", f"chmod 600 {file}")


def _kernels() -> Iterator[Finding]:
    from gridctl.kernels.cache import cache_folder, is_warm

    folder = cache_folder()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if is_warm():
        yield Finding("compiled code", "OK", f"ready in {folder}")
    elif not os.access(there, os.W_OK):
        yield Finding(
            "compiled code", "WARN", f"{there} cannot be written: every start compiles anew", "set XDG_CACHE_HOME"
        )
    else:
        yield Finding("compiled code", "WARN", "the first replay or start will compile for seconds", "gridctl warmup")


def _open_files() -> Iterator[Finding]:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard:,} open files"
    fix = "raise it: ulimit -Hn 65536, or LimitNOFILE=65536 in the service"
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield Finding("open files", "FAIL", f"{found}: enough for {hard // 2:,} streams", fix)
    elif hard != resource.RLIM_INFINITY and hard < WANTED_FILES:
        yield Finding("open files", "WARN", f"{found}: enough for {hard // 2:,} streams", fix)
    else:
        yield Finding("open files", "OK", found)


def _shared_memory() -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield Finding("shared memory", "WARN", "no /dev/shm: workers share a file on disk", "mount a tmpfs there")
        return
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    found = f"{free >> 20:,} MiB free in {folder}"
    if free < SHARED_MEMORY_BYTES:
        yield Finding("shared memory", "FAIL", found, "make room there; in a container: --shm-size 256m")
    else:
        yield Finding("shared memory", "OK", found)


# ── the grid ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sqlite() -> Iterator[Finding]:
    import sqlite3

    found = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < FIXED_SQLITE:
        # Not a warning: our lock keeps writers apart, and it is what distributions ship.
        found += ": older than 3.51.3, which repaired a rare loss of a log that two programs reset at once; gridctl's "
        found += "lock rules that out between gridctls, so let no other program write to the database"
    yield Finding("sqlite", "OK", found)


def _database(home: GridHome) -> Iterator[Finding]:
    with home.open_registry() as registry:
        problems = registry.check_integrity()
        version = registry.version()
        count = len(registry.all()) if not problems else 0
    for problem in problems:
        yield Finding(
            "database", "FAIL", problem, "stop writing, copy the folder, restore a backup, apply the manifests"
        )
    if not problems:
        yield Finding("database", "OK", f"{home.database}: whole, {count:,} resources, version {version:,}")


def _permissions(home: GridHome) -> Iterator[Finding]:
    loose = False
    for path, mask in ((home.database, 0o077), (home.database.parent, 0o022)):
        facts = path.stat()
        if facts.st_uid != os.getuid() and os.getuid() != 0:
            loose = True
            yield Finding("permissions", "WARN", f"{path} belongs to account {facts.st_uid}", "run as its owner")
        elif facts.st_mode & mask:
            loose = True
            rights = "0600" if path == home.database else "0700"
            yield Finding(
                "permissions",
                "WARN",
                f"{path} has mode {facts.st_mode & 0o777:04o}: others can {'read' if mask == 0o077 else 'change'} it",
                f"chmod {rights} {path}",
            )
    if not loose:
        yield Finding("permissions", "OK", "the database is its owner's alone")


def _disk(home: GridHome) -> Iterator[Finding]:
    facts = os.statvfs(home.database.parent)
    free, nodes = facts.f_bavail * facts.f_frsize, facts.f_favail
    found = f"{free / GIB:,.1f} GiB free at {home.database.parent}"
    fix = "free some: gridctl run list, gridctl run delete NAME"
    if free < FULL_DISK_BYTES or (facts.f_files and not nodes):
        yield Finding("disk", "FAIL", found, fix)
    elif free < LOW_DISK_BYTES:
        yield Finding("disk", "WARN", found, fix)
    else:
        yield Finding("disk", "OK", found)


def _clock(home: GridHome) -> Iterator[Finding]:
    """Events cannot be from the future; a clock that is said to be synchronised is."""
    now_ns = time.time_ns()
    with home.open_registry() as registry:
        newest = registry.events(limit=1)
    ahead_s = (newest[0].time_ns - now_ns) / NS_PER_S if newest else 0.0
    if ahead_s > CLOCK_SLACK_S:
        yield Finding(
            "clock", "WARN", f"the newest event is {ahead_s:,.0f} s in the future: the clock was set back", "check NTP"
        )
        return
    synchronised = Path("/run/systemd/timesync/synchronized").exists()
    yield Finding(
        "clock", "OK", "synchronised" if synchronised else "no contradiction found; NTP's state is not told here"
    )


# ── what runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _orchestrator(home: GridHome) -> Iterator[Finding]:
    from gridctl.control.folder import LiveFolder
    from gridctl.orchestrator.live_client import LiveClient, Remote

    folder = LiveFolder(home.database)
    found = folder.running()
    if found is None:
        left = " (a killed one left its files: the next start removes them)" if folder.control.exists() else ""
        yield Finding("orchestrator", "OK", f"none runs for this grid{left}")
        return
    with LiveClient(Remote(found.admin)) as client:
        yield from _status(client)
        yield from _shared_cache(client)


def _elsewhere(home: GridHome) -> Iterator[Finding]:
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        yield from _status(client)
        yield from _shared_cache(client)


def _status(client: LiveClient) -> Iterator[Finding]:
    status = client.status()
    ready = sum(1 for worker in status.workers if worker.state == "ready")
    found = f"{status.state} at {status.data_url}, {ready} of {len(status.workers)} workers ready"
    if status.problem:
        yield Finding(
            "orchestrator", "FAIL", f"{found}; the grid as it is now is not served: {status.problem}", "gridctl status"
        )
    elif ready < len(status.workers):
        yield Finding("orchestrator", "WARN", found, "see what it says; gridctl status -o json tells restarts")
    elif status.version != __version__:
        fix = "start it anew: gridctl down; gridctl up --detach"
        yield Finding("orchestrator", "WARN", f"{found}, by gridctl {status.version}; this is {__version__}", fix)
    else:
        yield Finding("orchestrator", "OK", found)


def _shared_cache(client: LiveClient) -> Iterator[Finding]:
    """The server that gateways share exact answers on, where there is one."""
    from gridctl.control.cache_messages import CacheReport

    shared = client.get("/v1/cache", CacheReport).shared
    if shared is None:
        return
    found, counts = f"{shared.place} is {shared.state}", shared.counts
    fix = "requests go on without it; see: gridctl cache status"
    if counts.get("foreign") or counts.get("tampered"):
        found += "; somebody without the key writes there"
        yield Finding("shared cache", "FAIL", found, "let gateways alone reach it, and give them a user of their own")
    elif shared.state != "up" or shared.problem or shared.owed:
        owed = f"; {shared.owed:,} orders are owed to it" if shared.owed else ""
        yield Finding("shared cache", "WARN", f"{found}{owed}{f': {shared.problem}' if shared.problem else ''}", fix)
    else:
        yield Finding("shared cache", "OK", found)


def _port(home: GridHome, listen: str) -> Iterator[Finding]:
    """Whether requests could come in where they would."""
    from gridctl.control.listening import open_listener, parse_address
    from gridctl.orchestrator.live import running

    address = parse_address(listen, "--listen")
    found = running(home)
    if found is not None:
        yield Finding("port", "OK", f"requests come in at {found.data_url}")
        return
    if address.path:
        yield Finding("port", "OK", f"{listen} is a socket's path")
        return
    listener, _ = open_listener(address, "--listen")
    listener.close()
    yield Finding("port", "OK", f"{address.host}:{address.port} is free")


def _engines(home: GridHome) -> Iterator[Finding]:
    """Every engine with an endpoint, asked once."""
    import asyncio

    from gridctl.broker.plan import live_backends
    from gridctl.control.observing import missing_credentials

    with home.open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    backends = live_backends(resources, rows=1 << 16)[:MOST_ENGINES]
    if not backends:
        yield Finding("engines", "OK", "no cluster says where its engines listen: replays only")
        return
    for variable in missing_credentials(backends):
        yield Finding(
            "engines",
            "FAIL",
            f"the variable {variable}, which engines' credential is in, is not set",
            f"export {variable}=…",
        )
    outcomes = asyncio.run(_probed(backends))
    bad = [(backend, outcome) for backend, outcome in zip(backends, outcomes, strict=True) if not outcome.has_passed]
    for backend, outcome in bad:
        yield Finding(
            "engines",
            "FAIL",
            f"cluster {backend.cluster}, {backend.url}: {outcome.detail}",
            f"start the engine, or correct its address: gridctl cluster get {backend.cluster} -o yaml",
        )
    if len(bad) < len(backends):
        yield Finding("engines", "OK", f"{len(backends) - len(bad)} of {len(backends)} answer")


async def _probed(backends: Sequence[Backend]) -> list[Outcome]:
    import asyncio

    from gridctl.control.observing import credential_of
    from gridctl.health.probe import Prober, Settings, Target

    prober = Prober(lambda outcome: None, Settings(timeout_s=PROBE_TIMEOUT_S))
    room = asyncio.Semaphore(64)

    async def one(backend: Backend) -> Outcome:
        async with room:
            return await prober.probe(
                Target(
                    key=str(backend.row),
                    url=backend.url,
                    model=backend.served_model or None,
                    token=credential_of(backend),
                )
            )

    return await asyncio.gather(*(one(backend) for backend in backends))
