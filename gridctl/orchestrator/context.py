"""Which grid a command works on, and the folder it lives in.

Precedence: `--store`, `--context` > `GRIDCTL_STORE`, `GRIDCTL_CONTEXT` > a project (the nearest folder upward with a
`gridctl.yaml`) > the current context of the user's configuration. With none of them there is no grid, and the error
says how to make one. A grid is a folder: manifests, `gridctl.yaml`, and `.gridctl/` with the database and the runs.
A context can also stand for an orchestrator elsewhere: its value is then the URL of an admin API, and the grid is read
and changed through it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean
from gridctl.orchestrator.config import PROJECT_FILE, Value, project_file, read_config, user_file, write_config

if TYPE_CHECKING:
    from gridctl.orchestrator.live_client import Remote
    from gridctl.registry import DrawStore, Registry, RunStore, SweepStore

STATE_FOLDER = ".gridctl"
DATABASE_NAME = "grid.db"
RUNS_NAME = "runs"
DRAWS_NAME = "draws"
SWEEPS_NAME = "sweeps"
TOKENS_KEY = "context-tokens"
AUTHORITIES_KEY = "context-authorities"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_INIT = "create a grid: gridctl init NAME --example metro"


class GridHome(NamedTuple):
    """A grid's place on disk, and why it was chosen (`origin`). With a `remote` the grid is that of an orchestrator
    elsewhere, and `folder` no more than its name."""

    folder: Path
    database: Path
    runs: Path
    origin: str
    remote: Remote | None = None

    def open_registry(self) -> Registry:
        """The grid's registry; a context manager. Raises: NotFoundError, StoreError, UnreachableError."""
        if self.remote is not None:
            from gridctl.orchestrator.remote_registry import RemoteRegistry

            return RemoteRegistry(self.remote)
        from gridctl.registry import Registry

        return Registry.open(self.database)

    def open_runs(self) -> RunStore:
        """The grid's runs. Raises: InputError for a grid elsewhere."""
        from gridctl.registry import RunStore

        return RunStore(self.local("runs").runs)

    def open_draws(self) -> DrawStore:
        """The draws that say how sure the grid's runs are."""
        from gridctl.registry import DrawStore

        return DrawStore(self.local("draws").runs.parent / DRAWS_NAME)

    def open_sweeps(self) -> SweepStore:
        """The grid's sweeps."""
        from gridctl.registry import SweepStore

        return SweepStore(self.local("sweeps").runs.parent / SWEEPS_NAME)

    def local(self, what: str) -> GridHome:
        """This home, if it is on this machine. Raises: InputError saying that `what` is not to be had elsewhere."""
        if self.remote is None:
            return self
        raise InputError(
            f"{what} are kept in a grid's folder, and {self.folder} is an orchestrator at {self.remote.url}",
            where=self.origin,
            fix="take a copy of the grid: gridctl export > grid.yaml; gridctl init COPY; gridctl apply -f grid.yaml",
        )


class _Choice:
    """What the global flags of this process said."""

    store: str | None = None
    context: str | None = None


_choice = _Choice()


def choose(*, store: str | None, context: str | None) -> None:
    """Keep the global flags for every later `current_grid()` of this process."""
    if store and context:
        raise UsageError("--store and --context both name a grid", fix="give one of them")
    _choice.store, _choice.context = store, context


def home_of(folder: Path, origin: str) -> GridHome:
    """The home of the grid in `folder`."""
    state = folder / STATE_FOLDER
    return GridHome(folder, state / DATABASE_NAME, state / RUNS_NAME, origin)


def current_grid(store: str | None = None) -> GridHome:
    """The grid this command works on. Raises: NotFoundError when there is none, with the command that makes one."""
    if store := store or _choice.store:
        return _from_store(store, "flag --store")
    if _choice.context:
        return _from_context(_choice.context, "flag --context")
    if store := os.environ.get("GRIDCTL_STORE"):
        return _from_store(store, "environment GRIDCTL_STORE")
    if name := os.environ.get("GRIDCTL_CONTEXT"):
        return _from_context(name, "environment GRIDCTL_CONTEXT")
    project = project_file()
    if project is not None:
        return _from_project(project)
    current = current_context()
    if current is not None:
        return _from_context(current, f"current context of {user_file()}")
    raise NotFoundError("no grid is chosen", where="neither here nor in a folder above", fix=_INIT)


def contexts() -> dict[str, str]:
    """Context names and the folders, or URLs of admin APIs, they stand for, by name."""
    found = read_config(user_file()).get("contexts", {})
    if isinstance(found, str):
        raise InputError("`contexts` must hold `name: folder` lines", where=str(user_file()))
    return dict(sorted(found.items()))


def current_context() -> str | None:
    """The name of the current context, or None."""
    value = read_config(user_file()).get("current-context")
    return value if isinstance(value, str) and value else None


def check_name(name: str) -> None:
    """Refuse what is no name for a context. Raises: InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:64]!r} is not a name for a context",
            where="NAME",
            fix="use letters, digits, '.', '_' and '-'; 1 to 63 characters",
        )


def add_context(name: str, folder: Path) -> None:
    """Remember a grid's folder under `name` and make it the current context."""
    _write_context(name, str(folder), {})


def add_remote_context(name: str, url: str, *, token: str = "", authority: str = "") -> None:
    """Remember an orchestrator's admin API under `name` and make it the current context.

    `token` is `env:NAME` or `file:PATH`, never the token itself; `authority` is a PEM file. Raises: InputError."""
    from gridctl.orchestrator.live_client import LiveClient, Remote

    LiveClient(Remote(url, ca=authority)).close()
    _write_context(name, url, {TOKENS_KEY: token, AUTHORITIES_KEY: authority})


def _write_context(name: str, place: str, references: dict[str, str]) -> None:
    path = user_file()
    content = read_config(path)
    known: dict[str, str] = contexts()
    known[name] = place
    content["contexts"] = known
    content["current-context"] = name
    for key in (TOKENS_KEY, AUTHORITIES_KEY):
        _set_reference(content, key, name, references.get(key, ""))
    write_config(path, content)


def _set_reference(content: dict[str, Value], key: str, name: str, value: str) -> None:
    """Keep, or with "" forget, what a context of that name refers to."""
    found = content.get(key, {})
    known = dict(found) if isinstance(found, dict) else {}
    known.pop(name, None)
    if value:
        known[name] = value
    if known:
        content[key] = known
    else:
        content.pop(key, None)


def use_context(name: str) -> None:
    """Make `name` the current context. Raises: NotFoundError."""
    if name not in contexts():
        raise _unknown_context(name, "")
    content = read_config(user_file())
    content["current-context"] = name
    write_config(user_file(), content)


def delete_context(name: str) -> None:
    """Forget `name`; the grid's folder stays. Raises: NotFoundError."""
    known = contexts()
    if name not in known:
        raise _unknown_context(name, "")
    del known[name]
    content: dict[str, Value] = {k: v for k, v in read_config(user_file()).items() if k != "contexts"}
    if content.get("current-context") == name:
        del content["current-context"]
    if known:
        content["contexts"] = known
    for key in (TOKENS_KEY, AUTHORITIES_KEY):
        _set_reference(content, key, name, "")
    write_config(user_file(), content)


def is_remote(place: str) -> bool:
    """Whether what a context stands for is an admin API, and not a folder."""
    return place.startswith(("https://", "http://", "unix:"))


def _from_store(store: str, origin: str) -> GridHome:
    if "://" in store:
        raise InputError(
            f"this gridctl keeps a grid in a folder, not at {store.split('://')[0]}://",
            where=origin,
            fix="give the path of a grid folder",
        )
    path = Path(store).expanduser().absolute()
    if path.suffix == ".db" or path.is_file():
        return GridHome(path.parent, path, path.parent / RUNS_NAME, origin)
    if not path.is_dir():
        raise NotFoundError(f"there is no grid folder {store}", where=origin, fix=f"create it: gridctl init {store}")
    if path.name == STATE_FOLDER:
        path = path.parent
    return home_of(path, origin)


def _from_context(name: str, origin: str) -> GridHome:
    known = contexts()
    if name not in known:
        raise _unknown_context(name, origin)
    if is_remote(known[name]):
        return _elsewhere(name, known[name], origin)
    folder = Path(known[name])
    if not folder.is_dir():
        raise NotFoundError(
            f"the folder of context {name} is gone: {folder}",
            where=origin,
            fix=f"gridctl context delete {name}, or put the folder back",
        )
    return home_of(folder, f"context {name} ({origin})")


def _elsewhere(name: str, url: str, origin: str) -> GridHome:
    from gridctl.orchestrator.live_client import Remote, token_from

    token = "" if url.startswith("unix:") else token_from(_reference(TOKENS_KEY, name))
    remote = Remote(url, token, _reference(AUTHORITIES_KEY, name))
    return GridHome(Path(name), Path(), Path(), f"context {name} ({origin})", remote)


def _reference(key: str, name: str) -> str:
    found = read_config(user_file()).get(key, {})
    return found.get(name, "") if isinstance(found, dict) else ""


def _from_project(project: Path) -> GridHome:
    store = read_config(project).get("store")
    if isinstance(store, str) and store:
        return _from_store(str(project.parent / Path(store).expanduser()), f"store of {project}")
    return home_of(project.parent, f"project {project}")


def _unknown_context(name: str, origin: str) -> NotFoundError:
    near = did_you_mean(name, contexts())
    return NotFoundError(
        f"there is no context {name!r}",
        where=origin or None,
        fix=f"did you mean {near}?" if near else "see them: gridctl context list",
    )


__all__ = [
    "PROJECT_FILE",
    "STATE_FOLDER",
    "GridHome",
    "add_context",
    "add_remote_context",
    "check_name",
    "choose",
    "contexts",
    "current_context",
    "current_grid",
    "delete_context",
    "home_of",
    "is_remote",
    "use_context",
]
