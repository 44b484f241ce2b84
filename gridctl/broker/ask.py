"""Ask: what a request wants, understood once: who asks, for what, from where, how long it is, until when it is wanted.

Data only. Tokens are estimates until the engine reports them; times are monotonic nanoseconds of this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.broker.plan import Role

if TYPE_CHECKING:
    from gridctl.broker.groups import Group

NO_BLOCKS: Final[NDArray[np.int64]] = np.zeros(0, np.int64)
UNNAMED_SESSION: Final = -1


class Principal(NamedTuple):
    """A caller after its key was checked: one kind of it, whatever header carried the key."""

    name: str
    role: Role
    tenant: str
    workload: str | None = None


class Ask:
    """One request. `model` is as the client named it; `prompt_tokens` are expected and `least_tokens` certain,
    `output_tokens` what its answer is expected to have, of at most `max_tokens` (None: not said). `blocks` are chained
    hashes of the prompt's whole windows, salted by tenant; each window stands for `tokens_per_block` tokens.
    `text_bytes` is what of the prompt is text, `media_tokens` an allowance for the rest. `adds_usage`: the engine is
    made to report its usage in a stream whose client did not ask for it, so the report is not for the client. `group`
    is the broker's set of candidates; it changes with the plan."""

    __slots__ = (
        "adds_usage",
        "arrival_ns",
        "blocks",
        "deadline_ns",
        "draw",
        "endpoint",
        "group",
        "jurisdiction",
        "least_tokens",
        "max_tokens",
        "media_tokens",
        "model",
        "origin",
        "output_tokens",
        "principal",
        "prompt_tokens",
        "request_id",
        "session",
        "stream",
        "tenant",
        "text_bytes",
        "tokens_per_block",
        "traceparent",
        "wants_usage",
        "when_infeasible",
        "workload",
    )

    def __init__(
        self,
        request_id: str,
        endpoint: str,
        principal: Principal,
        workload: str,
        tenant: str,
        origin: str,
        model: str,
        arrival_ns: int,
        deadline_ns: int,
        stream: bool,
        wants_usage: bool,
        prompt_tokens: int,
        least_tokens: int,
        text_bytes: int,
        media_tokens: int,
        max_tokens: int | None,
        output_tokens: int,
        draw: int,
        session: int = UNNAMED_SESSION,
        blocks: NDArray[np.int64] = NO_BLOCKS,
        tokens_per_block: int = 1,
        traceparent: str = "",
        when_infeasible: str = "serve-late",
        jurisdiction: str = "",
        adds_usage: bool = False,
        group: Group | None = None,
    ) -> None:
        self.request_id = request_id
        self.endpoint = endpoint
        self.principal = principal
        self.workload = workload
        self.tenant = tenant
        self.origin = origin
        self.model = model
        self.arrival_ns = arrival_ns
        self.deadline_ns = deadline_ns
        self.stream = stream
        self.wants_usage = wants_usage
        self.prompt_tokens = prompt_tokens
        self.least_tokens = least_tokens
        self.text_bytes = text_bytes
        self.media_tokens = media_tokens
        self.max_tokens = max_tokens
        self.output_tokens = output_tokens
        self.draw = draw
        self.session = session
        self.blocks = blocks
        self.tokens_per_block = tokens_per_block
        self.traceparent = traceparent
        self.when_infeasible = when_infeasible
        self.jurisdiction = jurisdiction
        self.adds_usage = adds_usage
        self.group = group
