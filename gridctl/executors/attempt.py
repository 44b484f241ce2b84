"""One attempt at a job, wherever it runs: what comes of it is an answer that travels between processes.

Our own errors travel as they are, because they say what the user can do; anything else travels as its traceback's text,
because its type may not exist where it arrives.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Generic

from gridctl.errors import GridctlError, InputError
from gridctl.executors.pool import Advanced, Function, Job, Result, Shared


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """The job's result."""

    result: Result


@dataclass(frozen=True, slots=True)
class Refused:
    """The job raised one of our errors."""

    error: GridctlError


@dataclass(frozen=True, slots=True)
class Broken:
    """The job met a bug; its traceback."""

    text: str


Answer = Done[Result] | Refused | Broken


def attempt(function: Function[Shared, Job, Result], shared: Shared, job: Job, advanced: Advanced) -> Answer[Result]:
    """Do the job; never raises but for an interrupt."""
    try:
        return Done(function(shared, job, advanced))
    except GridctlError as error:
        return Refused(error)
    except MemoryError:
        return Refused(
            InputError("a worker ran out of memory", where="executor", fix="give fewer --jobs, or a shorter trace")
        )
    except Exception as error:
        last = "".join(traceback.format_exception_only(error)).strip()
        return Broken(f"{last} (in a worker)\n{traceback.format_exc()}")


def unwrap(answer: Answer[Result]) -> Result:
    """The result, or the error raised here."""
    if isinstance(answer, Refused):
        raise answer.error
    if isinstance(answer, Broken):
        raise RuntimeError(answer.text)
    return answer.result
