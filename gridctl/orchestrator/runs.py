"""Runs on disk ⇄ runs in memory: one JSON document and one array per column. The store knows neither type.

A document is read without what computes over columns, so that a list of runs comes at once.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.accounts.facts import RunInfo
from gridctl.errors import StoreError
from gridctl.orchestrator.context import GridHome, current_grid

if TYPE_CHECKING:
    import numpy as np

    from gridctl.accounts.rows import Run, RunRows


def load_run(name: str, home: GridHome | None = None) -> Run:
    """The run of that name, its columns memory-mapped. Raises NotFoundError, and StoreError when damaged or newer."""
    from gridctl.accounts.rows import Run, RunRows

    document, columns = (home or current_grid()).open_runs().load(name)
    wanted = [field.name for field in dataclasses.fields(RunRows)]
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise StoreError(
            f"run {name} has no column {missing[0]}",
            where=f"run {name}",
            fix="it was written by another gridctl: replay the trace again",
        )
    return Run(_decode(name, document), RunRows(**{column: columns[column] for column in wanted}))


def load_info(name: str, home: GridHome | None = None) -> RunInfo:
    """The run's description without its columns."""
    return _decode(name, (home or current_grid()).open_runs().document(name))


def save_run(run: Run, home: GridHome, *, replace: bool = False) -> None:
    """Write the run, whole or not at all."""
    home.open_runs().save(run.info.name, msgspec.json.encode(run.info), columns_of(run.rows), replace=replace)


def columns_of(rows: RunRows) -> dict[str, np.ndarray[Any, Any]]:
    """The columns by name, as the store takes them."""
    import numpy as np

    return {field.name: np.asarray(getattr(rows, field.name)) for field in dataclasses.fields(rows)}


def _decode(name: str, document: bytes) -> RunInfo:
    try:
        return msgspec.json.decode(document, type=RunInfo)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"run {name} cannot be read: {error}",
            where=f"run {name}",
            fix=f"replay the trace again, or delete it: gridctl run delete {name}",
        ) from None
