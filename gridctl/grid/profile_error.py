"""Profile error: the same grid with step times that are off by as much as their profiles may be.

A profile states the standard deviation of its step times, as a share. A draw multiplies every step time of a profile
by one factor, exp(σ·z) with z standard normal: log-normal around 1, so that half the draws are slower. The error is
the profile's, not the engine's: all engines of a model variant on the same number of the same GPUs share a factor,
and so does the centralised alternative, or the error would average out over the grid.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from gridctl.engine.profile import KvRow, StepProfile
from gridctl.engine.state import GPU
from gridctl.grid.image import Engine, GridImage
from gridctl.traces.randomness import exp, normals


def with_profile_errors(image: GridImage, seed: int) -> GridImage:
    """The image with every step-time profile scaled by its own draw. Equal profiles stay one object."""
    scaled: dict[int, StepProfile] = {}
    engines = []
    for engine in image.engines:
        profile = engine.spec.profile
        if profile is None:
            engines.append(engine)
            continue
        if id(profile) not in scaled:
            scaled[id(profile)] = scale_profile(profile, _factor(seed, _identity(image, engine), profile.sigma))
        spec = dataclasses.replace(engine.spec, profile=scaled[id(profile)])
        engines.append(dataclasses.replace(engine, spec=spec))
    return dataclasses.replace(image, engines=tuple(engines))


def scale_profile(profile: StepProfile, factor: float) -> StepProfile:
    """The profile with every time multiplied by `factor`, in whole picoseconds; a step never takes none."""
    return dataclasses.replace(
        profile,
        dense_ps=np.maximum(1, np.rint(profile.dense_ps * factor)).astype(np.int64),
        sample_ps=np.rint(profile.sample_ps * factor).astype(np.int64),
        decode=tuple(_scaled_row(row, factor) for row in profile.decode),
        mixed=tuple(_scaled_row(row, factor) for row in profile.mixed),
        cross_ps=round(profile.cross_ps * factor),
        chunk_ps=np.rint(profile.chunk_ps * factor).astype(np.int64),
        chunk_kv_ps=np.rint(profile.chunk_kv_ps * factor).astype(np.int64),
    )


def _scaled_row(row: KvRow, factor: float) -> KvRow:
    return tuple((knot, round(base * factor), round(slope * factor)) for knot, base, slope in row)


def _factor(seed: int, identity: str, sigma: float) -> float:
    drawn = normals(seed, f"profile/{identity}", np.zeros(1, np.int64))
    return float(exp(sigma * drawn)[0])


def _identity(image: GridImage, engine: Engine) -> str:
    """What a profile is of: a model variant on so many of these GPUs, or on CPU functions."""
    facts = engine.facts
    if engine.spec.kind != GPU:
        return f"{facts.model}/{facts.variant} on functions"
    return f"{facts.model}/{facts.variant} on {facts.gpus} {image.view.clusters[facts.cluster].spec.gpu}"
