"""Ask: what a request wants, understood once: who asks, for what, from where, how long it is, until when it is wanted.

Data only. Tokens are estimates until the engine reports them; times are monotonic nanoseconds of this machine. An Ask
is part of no circle of references, so the garbage collector is spared it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.broker.plan import Role

if TYPE_CHECKING:
    from gridctl.broker.groups import Group

NO_BLOCKS: NDArray[np.int64] = np.zeros(0, np.int64)
UNNAMED_SESSION = -1


class Principal(NamedTuple):
    """A caller after its key was checked: one kind of it, whatever header carried the key."""

    name: str
    role: Role
    tenant: str
    workload: str | None = None


class Ask(msgspec.Struct, gc=False):
    """One request. `model` is as the client named it; `prompt_tokens` are expected and `least_tokens` certain,
    `output_tokens` what its answer is expected to have, of at most `max_tokens` (None: not said). `blocks` are chained
    hashes of the prompt's whole windows, salted by tenant; each window stands for `tokens_per_block` tokens.
    `text_bytes` is what of the prompt is text, `media_tokens` an allowance for the rest. `adds_usage`: the engine is
    made to report its usage in a stream whose client did not ask for it, so the report is not for the client. `group`
    is the broker's set of candidates; it changes with the plan."""

    request_id: str
    endpoint: str
    principal: Principal
    workload: str
    tenant: str
    origin: str
    model: str
    arrival_ns: int
    deadline_ns: int
    stream: bool
    wants_usage: bool
    prompt_tokens: int
    least_tokens: int
    text_bytes: int
    media_tokens: int
    max_tokens: int | None
    output_tokens: int
    draw: int
    session: int = UNNAMED_SESSION
    blocks: NDArray[np.int64] = msgspec.field(default_factory=lambda: NO_BLOCKS)
    tokens_per_block: int = 1
    traceparent: str = ""
    when_infeasible: str = "serve-late"
    jurisdiction: str = ""
    adds_usage: bool = False
    group: Group | None = None
