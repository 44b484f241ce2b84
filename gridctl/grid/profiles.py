"""Profiles of a grid: which one a deployment uses, and whether those declared make sense. Plain Python, no arrays.

A declared profile goes before a shipped one, and either must have been measured on the deployment's GPU, architecture,
formats and parallelism: step times of another model are worse than a roofline of this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from gridctl.errors import InputError, did_you_mean
from gridctl.grid.view import GridView
from gridctl.manifest.shipped import shipped_profiles
from gridctl.resources import Deployment, Model, Profile, ProfileSpec, Variant, key_of

Points = Sequence[tuple[int, float]]

LARGEST_STEP = 65_536
"""Tokens: the most `max_num_batched_tokens` may be."""
LONGEST_STEP_S = 3600.0
"""Slower than the largest models on the slowest GPUs, and short enough for a clock of picoseconds in 64 bits."""


def mismatch(profile: Profile, gpu: str, model: Model, variant: Variant, deployment: Deployment) -> str:
    """What the profile was measured on that this deployment is not; empty when it fits."""
    spec = profile.spec
    pairs = (
        ("gpu", spec.gpu, gpu),
        ("dtype", spec.dtype, variant.dtype),
        ("kv_cache_dtype", spec.kv_cache_dtype, deployment.engine.kv_cache_dtype),
        ("tensor_parallel", spec.tensor_parallel, deployment.tensor_parallel),
        ("data_parallel", spec.data_parallel, deployment.data_parallel),
    )
    for name, measured, declared in pairs:
        if measured != declared:
            return f"its {name} is {measured}, the deployment's {declared}"
    for name in spec.architecture.__struct_fields__:
        measured, declared = getattr(spec.architecture, name), getattr(model.spec.architecture, name)
        if measured != declared:
            return f"it is of another model: {name} is {measured}, that of {model.name} {declared}"
    return ""


def profile_named(view: GridView, name: str) -> Profile | None:
    """A declared or shipped profile."""
    return view.profiles.get(name) or shipped_profiles().get(name)


def find_profile(view: GridView, gpu: str, model: Model, variant: Variant, deployment: Deployment) -> Profile | None:
    """The profile the deployment names, else the first that fits: declared ones first, each kind in order of name."""
    if deployment.profile is not None:
        return profile_named(view, deployment.profile)
    declared = [view.profiles[name] for name in sorted(view.profiles)]
    for profile in (*declared, *shipped_profiles().values()):
        if not mismatch(profile, gpu, model, variant, deployment):
            return profile
    return None


def profile_reference_errors(view: GridView, deployment: Deployment, gpu: str, where: str) -> Iterator[InputError]:
    """A deployment that names a profile which does not exist or is of another engine."""
    found = view.variant(deployment.variant)
    if deployment.profile is None or found is None:
        return
    profile = profile_named(view, deployment.profile)
    if profile is None:
        close = did_you_mean(deployment.profile, [*view.profiles, *shipped_profiles()])
        yield InputError(
            f"profile {deployment.profile} does not exist",
            where=f"{where}.profile",
            fix=f"did you mean {close}?" if close else "gridctl profile list",
        )
        return
    reason = mismatch(profile, gpu, *found, deployment)
    if reason:
        yield InputError(
            f"profile {profile.name} was not measured on this engine: {reason}",
            where=f"{where}.profile",
            fix="drop it, and the one that fits is used, else a roofline; or fit one: gridctl profile fit --help",
        )


def profile_errors(view: GridView) -> Iterator[InputError]:
    """Knots that do not rise, and times that fall: more work would take less."""
    for profile in view.profiles.values():
        where = str(key_of(profile))
        for name, points in _curves(profile.spec):
            fall = next(((a, b) for a, b in pairwise(points) if b[0] <= a[0] or b[1] < a[1]), None)
            if fall is not None:
                yield InputError(
                    f"the curve falls or repeats a count: {list(fall[0])}, then {list(fall[1])}",
                    where=f"{where}, spec.{name}",
                    fix="list knots by rising count, with times that never fall",
                )
        if profile.spec.dense[0][1] <= 0:
            yield InputError(
                "a step that takes no time would never end", where=f"{where}, spec.dense", fix="give times above 0"
            )
        seconds = _extrapolated_s(profile.spec.dense, LARGEST_STEP)
        if seconds > LONGEST_STEP_S:
            yield InputError(
                f"a step of {LARGEST_STEP:,} tokens would take {seconds:,.0f} s",
                where=f"{where}, spec.dense",
                fix="give microseconds; beyond the last knot the last slope goes on",
            )


def _extrapolated_s(points: Points, at: int) -> float:
    """Seconds at a count, the last slope going on beyond the last knot."""
    (count, time), (before, earlier) = points[-1], points[-2] if len(points) > 1 else (0, points[-1][1])
    return (time + max(0.0, time - earlier) / max(1, count - before) * max(0, at - count)) / 1e6


def _curves(spec: ProfileSpec) -> Iterator[tuple[str, Points]]:
    yield "dense", spec.dense
    yield "sample", spec.sample
    for name, rows in (("decode", spec.decode), ("mixed", spec.mixed)):
        yield name, [(row.sequences, 0.0) for row in rows]
        for index, row in enumerate(rows):
            yield f"{name}[{index}].kv", row.kv
    yield "chunk", [(knot.tokens, knot.us) for knot in spec.chunk]
