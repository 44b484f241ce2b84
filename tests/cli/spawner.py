"""Runs commands in forked processes that have already imported gridctl: real processes, without the start-up each time.

Reads one JSON request a line, answers one JSON line. Started by the fixtures beside it; ends when its input closes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import typer.core  # noqa: F401 (imported once here, for every command)

from gridctl.cli.main import main


def run(request: dict) -> dict:
    """Fork, become the command, and tell how it ended."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(request["stdin"].encode())
        stdin.seek(0)
        child = os.fork()
        if child == 0:
            become(request, stdin.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read().decode(), "err": err.read().decode()}


def become(request: dict, *files: int) -> None:
    """In the child: the command's folder, environment and streams, then the command."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, encoding="utf-8") for n, mode in enumerate("rww"))  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = 1
    try:
        main(request["arguments"])
    except SystemExit as done:
        code = int(done.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        answer = json.dumps(run(json.loads(line)))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
