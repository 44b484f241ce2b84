"""One line a request, gathered, and never what was said."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gridctl.gateway.access_log import AccessLog
from gridctl.signals.finished import Finished


def test_lines_are_written_together_and_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = AccessLog(descriptor)
    hostile = Finished(request_id='a"b', model="x\ny", outcome="completed", status=200, arrival_ns=0, end_ns=5_000_000)
    log.write(hostile)
    log.write(Finished(outcome="cancelled", status=499, first_token_ns=2_000_000, end_ns=3_000_000))
    assert path.read_bytes() == b""
    log.flush()
    os.close(descriptor)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["request_id"], first["model"], first["status"], first["e2e_ms"]) == ('a"b', "x\ny", 200, 5.0)
    assert (second["ttft_ms"], second["outcome"]) == (2.0, "cancelled")
    assert not {"ask", "choice", "prompt", "body", "authorization"} & set(first)


def test_a_disk_that_is_full_loses_lines_and_counts_them() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    log = AccessLog(descriptor)
    for _ in range(3):
        log.write(Finished())
    log.flush()
    os.close(descriptor)
    assert log.lost == 3
