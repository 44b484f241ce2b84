"""Acceptance: whether a desired state that came over the wire may be followed.

It must be this site's, vouched for by the pinned release key, and no older than any seen before; it must not have
expired, by a clock corrected to the orchestrator's. Each wanted model must name one version and say where it is.
Decides only; what was refused changes nothing at the site.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from gridctl.agent.folder import safe_name
from gridctl.agent.journal import Journal
from gridctl.artifacts.reference import parse_reference
from gridctl.errors import GridctlError, InputError
from gridctl.rollout.protocol import Desired, Wanted
from gridctl.rollout.releasekey import is_signed_by
from gridctl.rollout.windows import is_open

MAX_DESIRED_BYTES = 4 << 20
CLOCK_TOLERANCE_S = 60.0
"""Seconds between our clock and the orchestrator's that nobody needs to hear of."""


class RefusedError(InputError):
    """A desired state that is not followed."""


def read_desired(data: bytes) -> Desired:
    """A desired state as sent. Raises: RefusedError."""
    try:
        return msgspec.json.decode(data, type=Desired)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _refused(f"it cannot be read: {str(error)[:200]}", "check that --url is the orchestrator's") from None


def check_desired(desired: Desired, journal: Journal, public_pem: str | None, now_unix_s: float) -> None:
    """Whether to take it. `now_unix_s` is by the orchestrator's clock. Raises: RefusedError, for any reason."""
    if desired.site != journal.site:
        raise _refused(f"it is for site {desired.site[:80]}", "check --site and the token")
    if public_pem is not None and not is_signed_by(desired, public_pem):
        raise _refused(
            "the pinned release key has not signed it",
            "if the key was changed on purpose, remove release.pub from the agent's folder and give --key",
        )
    if desired.counter < journal.highest:
        raise _refused(
            f"it is older (counter {desired.counter}) than one seen before ({journal.highest})",
            "if the orchestrator lost its rollouts, restore them; undoing takes a higher counter",
        )
    if not math.isfinite(desired.expires_unix_s) or desired.expires_unix_s <= now_unix_s:
        raise _refused("it has expired", "compare the clocks of site and orchestrator")
    if not 0 < desired.lease_s < 86_400 * 366 or not 0 <= desired.next_sync_s <= 86_400:
        raise _refused("its lease or interval is out of range", "update gridctl at the site")
    models = [wanted.model for wanted in desired.wanted]
    if len(set(models)) < len(models):
        raise _refused("it names a model twice", "report this")


def check_wanted(wanted: Wanted) -> None:
    """Whether what is wanted of one model makes sense. Raises: InputError, UsageError."""
    safe_name(wanted.model)
    if not wanted.version.variant.isprintable():
        raise InputError("the variant's name cannot be printed", where=wanted.model, fix="letters and digits")
    if wanted.mode == "absent" and not wanted.reference:
        return
    _check_windows(wanted)
    reference = parse_reference(wanted.reference)
    if reference.digest != wanted.version.digest:
        raise InputError(
            "the reference does not name the version's digest", where=wanted.model, fix="push the model again"
        )


def _check_windows(wanted: Wanted) -> None:
    try:
        is_open(wanted.windows, 0.0)
    except ValueError:
        raise InputError("its windows are no hours", where=wanted.model, fix="22:00 to 06:00") from None


def sensible(wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[str]]:
    """Those that make sense, and what is wrong with the others."""
    sound, complaints = [], []
    for one in wanted:
        try:
            check_wanted(one)
            sound.append(one)
        except GridctlError as error:
            complaints.append(f"{one.model[:80]}: {error.what}")
    return sound, complaints


def _refused(what: str, fix: str) -> RefusedError:
    return RefusedError(f"the desired state is refused: {what}", where="sync", fix=fix)
