"""StreamedColumns: rows of any format written into a folder as they are read, instead of gathered in memory.

Checks are those of `Columns`. What cannot be decided before the last row is seen raises `NeedsWholeTraceError`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gridctl.traces.blocksize import BlockSize
from gridctl.traces.columns import Columns, Ints, Rows
from gridctl.traces.folderwriter import FolderWriter
from gridctl.traces.spans import spans_of
from gridctl.traces.trace import UNSAID, Trace


class NeedsWholeTraceError(Exception):
    """Only a reader that holds the whole trace can go on; caught where that reader is at hand."""


class StreamedColumns(Columns):
    """Columns on their way into `folder`."""

    def __init__(self, folder: FolderWriter, where: str, *, limit: int | None, block_size: BlockSize) -> None:
        super().__init__(where, sort=False, limit=limit, block_size=block_size)
        self._folder = folder
        self._has_texts = self._has_numbers = self._has_prompts = False

    def _keep(self, rows: Rows) -> None:
        if self.sort or self.huge_ids:
            raise NeedsWholeTraceError
        counts = rows.block_counts if rows.block_counts is not None else np.zeros(len(rows), np.int64)
        ids = rows.block_ids if rows.block_ids is not None else np.zeros(0, np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self._has_prompts |= rows.prompts is not None
        self._folder.append(self._trace(rows), spans_of(ids, offsets))

    def _trace(self, rows: Rows) -> Trace:
        unsaid = np.full(len(rows), UNSAID, np.int32)
        return Trace(
            name="",
            arrival_ns=rows.arrival_ns,
            input_tokens=rows.input_tokens,
            output_tokens=rows.output_tokens,
            origin=rows.names.get("origin", unsaid),
            workload=rows.names.get("workload", unsaid),
            tenant=rows.names.get("tenant", unsaid),
            model=rows.names.get("model", unsaid),
            session=self._sessions(rows),
            block_offsets=np.zeros(len(rows) + 1, np.int64),
            block_ids=np.zeros(0, np.int64),
        )

    def _sessions(self, rows: Rows) -> Ints:
        """Text keys are numbered from 0, as they are when no key is a number."""
        if rows.session is None:
            return np.full(len(rows), UNSAID, np.int64)
        self._has_texts |= bool((rows.session < UNSAID).any())
        self._has_numbers |= bool((rows.session >= 0).any())
        if self._has_texts and self._has_numbers:
            raise NeedsWholeTraceError
        settled: Ints = np.where(rows.session < UNSAID, -2 - rows.session, rows.session)
        return settled

    def finish(self, name: str, block_tokens: int) -> None:
        """Write the header; `block_tokens` is what the file says where its rows do not."""
        self._settle()
        size = self.block_size.settle(self._where, self.notes)
        if self._has_prompts:
            self.notes.append("prompt texts are not kept in columns")
        none = np.zeros(0, np.int64)
        empty = self._trace(Rows(none, none, none, line_of=lambda row: row))
        last = replace(
            empty,
            block_tokens=size or block_tokens,
            origins=self.names["origin"].known,
            workloads=self.names["workload"].known,
            tenants=self.names["tenant"].known,
            models=self.names["model"].known,
        )
        self._folder.finish(name, last, tuple(self.notes))
