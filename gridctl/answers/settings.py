"""What the keeper must know of the grid: each workload's promise, how answers are judged, and how much room there is.

Decides nothing; reads it out of the gateway's plan. A workload that the plan does not name is never served from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from gridctl.answers.presence import DEFAULT_SLOTS
from gridctl.broker.plan import read_plan
from gridctl.resources import Site, Workload

DEFAULT_BYTES = 1 << 30


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """One workload's. `error_rate` is wrong answers over requests; see `cache.decision` for `audit_budget`, `sharing`
    for `public_after` and `probation`, which count where `is_public`; `is_shared` where a shared tier may hold its
    answers."""

    mode: Literal["exact", "semantic"] = "semantic"
    error_rate: float = 0.01
    judge: Literal["text", "meaning"] = "meaning"
    audit_budget: float = 0.1
    embedder: str = "hashed"
    is_public: bool = False
    public_after: int = 3
    probation: int = 2
    is_shared: bool = True


class KeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rules by workload; room in bytes and in slots of the presence table."""

    rules: dict[str, Rules]
    capacity_bytes: int = DEFAULT_BYTES
    slots: int = DEFAULT_SLOTS


def is_shared(workload: Workload) -> bool:
    """Whether its answers may leave this gateway for a server that others share. Unless it says so itself, not where
    its requests are bound to places, for the server stands at one, and not where they may be about persons."""
    policy = workload.spec.cache
    if policy.shared != "auto":
        return policy.shared == "always"
    return workload.spec.jurisdiction.rule == "any" and policy.personal_data == "bypass"


def settings_of_plan(path: Path) -> KeeperSettings:
    """Read the plan. The room is the largest `cache_gib` of its sites: the gateway stands at one place and keeps there
    what that place has room for."""
    resources = read_plan(path).resources
    rules = {}
    for workload in (one for one in resources if isinstance(one, Workload)):
        policy = workload.spec.cache
        if policy.mode != "off":
            rules[workload.name] = Rules(
                mode=policy.mode,
                error_rate=policy.error_rate,
                judge=policy.judge,
                audit_budget=policy.audit_budget,
                embedder=policy.embedder,
                is_public=policy.sharing == "public",
                public_after=policy.public_after,
                probation=policy.probation,
                is_shared=is_shared(workload),
            )
    room = max((one.spec.cache_gib for one in resources if isinstance(one, Site)), default=0.0)
    return KeeperSettings(rules=rules, capacity_bytes=int(room * (1 << 30)) or DEFAULT_BYTES)
