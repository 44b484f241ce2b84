"""Another Python, for what needs torch: llm-compressor, transformers, their tokenizers.

gridctl itself never imports them: they pin each other's versions, and an everyday command must not wait for them. So
their work is done by a script of ours run by an interpreter that has them, named with --python, with no network and
no code of the model's. Invariant: what is missing is said before the long work begins, with the command that installs
it; a script that fails leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.errors import InputError, Interrupted, NotFoundError, UsageError

MEASURING = Path(__file__).with_name("measuring_script.py")
COMPRESSING = Path(__file__).with_name("compressing_script.py")
PROGRESS = "@done "
"""How a script says on stdout that more of its work is done."""
PROBE_SECONDS = 60
_KNOWN = ("torch", "transformers", "compressed-tensors", "llmcompressor", "tokenizers", "datasets")
_PROBE = f"""
import importlib.metadata as known, json
found = {{}}
for name in {_KNOWN!r}:
    try:
        found[name] = known.version(name)
    except known.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python and the versions of the packages it has."""

    path: Path
    versions: Mapping[str, str]

    def command(self, script: Path, words: Sequence[str]) -> list[str]:
        """The command that runs a script: isolated, so neither PYTHONPATH nor the current folder reaches it."""
        return [str(self.path), "-I", str(script), *words]

    def run(
        self, script: Path, words: Sequence[str], advance: Callable[[int], None] = lambda _count: None
    ) -> dict[str, Any]:
        """Run a script; the JSON object it writes to its --result. Raises: InputError, Interrupted."""
        with tempfile.TemporaryDirectory(prefix="gridctl-") as scratch:
            result, log = Path(scratch, "result.json"), Path(scratch, "log")
            command = self.command(script, [*words, "--result", str(result)])
            code = _watched(command, log, advance)
            if code != 0 or not result.is_file():
                raise InputError(
                    f"{script.stem} failed: {_last_words(log, code)}",
                    where=str(self.path),
                    fix="see what it says: " + " ".join(self.command(script, words)),
                )
            found = json.loads(result.read_text(encoding="utf-8"))
            assert isinstance(found, dict)
            return found


def find_interpreter(path: Path | None, needs: Sequence[str], what: str) -> Interpreter:
    """The interpreter at `path`, gridctl's own without one, if it has what `what` needs.

    Raises: NotFoundError, UsageError naming what is missing and how to get it."""
    chosen = Path(sys.executable) if path is None else path.absolute()
    try:
        done = subprocess.run(
            [str(chosen), "-I", "-c", _PROBE], capture_output=True, text=True, check=False, timeout=PROBE_SECONDS
        )
        versions = json.loads(done.stdout)
    except OSError as error:
        raise NotFoundError(f"no Python there: {error.strerror}", where=str(chosen), fix="check --python") from None
    except (ValueError, subprocess.TimeoutExpired):
        raise UsageError("this is no Python", where=str(chosen), fix="name a Python with --python") from None
    missing = [name for name in needs if name not in versions]
    if missing:
        raise UsageError(
            f"{what} needs {' and '.join(missing)}, which this Python does not have",
            where=str(chosen),
            fix=f"python -m venv ml && ml/bin/pip install {' '.join(needs)}, then add --python ml/bin/python",
        )
    return Interpreter(chosen, versions)


def _watched(command: Sequence[str], log: Path, advance: Callable[[int], None]) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | _OFFLINE
    with (
        log.open("wb") as talk,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk, env=environment, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(PROGRESS):
                    advance(int(line.removeprefix(PROGRESS)))
            return process.wait()
        except KeyboardInterrupt:
            raise Interrupted("stopped", where=Path(command[2]).stem, fix="run the command again") from None
        finally:
            if process.poll() is None:
                process.kill()


def _last_words(log: Path, code: int) -> str:
    """The last line of an error, which in Python says what happened."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code < 0:
        killed = f"ended by {signal.Signals(-code).name}"
        return f"{killed}, as it is when memory runs out" if -code == signal.SIGKILL else killed
    return lines[-1][:400] if lines else f"exit code {code}"
