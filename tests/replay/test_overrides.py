"""Overrides: one workload decided otherwise is that workload under the other policy, and changes no other's rules."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.errors import InputError
from gridctl.grid.check import check_grid
from gridctl.grid.image import build_image
from gridctl.replay.digest import digest_rows
from gridctl.replay.replay import Replayed, replay
from gridctl.resources import Metadata, Policy, PolicyOverride, PolicySpec, Resource
from gridctl.resources.policy import ALGORITHMS

PARTS: list[Resource] = [
    gpu(),
    model(),
    site("paris"),
    site("frankfurt", "DE", "core", lat=50.1, lon=8.7),
    cluster("edge", "paris"),
    cluster("core", "frankfurt"),
    workload("voice", ttft_ms=80.0, when_infeasible="reject"),
    workload("batch", ttft_ms=80.0, when_infeasible="reject"),
]
"""Two engines; two workloads that only their names tell apart."""


def replayed(policy: PolicySpec, every_ms: float = 2.0, requests: int = 60) -> Replayed:
    """Voice and batch in turn, from Paris."""
    asked = [{"at_ms": every_ms * number, "workload": number % 2} for number in range(requests)]
    return replay(build_image(PARTS), trace(asked, workloads=("voice", "batch")), policy)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_overriding_every_workload_is_the_other_policy(algorithm: str) -> None:
    other = PolicyOverride(algorithm=algorithm)
    everywhere = replayed(PolicySpec(overrides={"voice": other, "batch": other}))
    assert digest_rows(everywhere) == digest_rows(replayed(PolicySpec(algorithm=algorithm)))


def test_an_override_that_says_what_the_policy_says_changes_nothing() -> None:
    same = PolicyOverride(reject_ratio=PolicySpec().reject_ratio, allow_reject=True)
    plain = digest_rows(replayed(PolicySpec()))
    for override in (same, PolicyOverride()):
        assert digest_rows(replayed(PolicySpec(overrides={"voice": override}))) == plain


def test_only_the_workload_named_is_decided_otherwise() -> None:
    """Under `centralized` a request goes to the core; from Paris `nearest` stays in Paris: no request is in doubt."""
    found = replayed(PolicySpec(algorithm="nearest", overrides={"batch": PolicyOverride(algorithm="centralized")}))
    tiers = np.array([engine.tier for engine in found.engines])[found.rows.engine]
    assert set(tiers[found.rows.workload == 0]) == {"edge"}
    assert set(tiers[found.rows.workload == 1]) == {"core"}


def test_a_workload_that_may_not_be_rejected_is_served_late_beside_one_that_may() -> None:
    """Half a millisecond between requests is far beyond both engines: with no override both workloads lose requests."""
    plain = replayed(PolicySpec(), every_ms=0.2, requests=400)
    spared = replayed(PolicySpec(overrides={"voice": PolicyOverride(allow_reject=False)}), every_ms=0.2, requests=400)

    def rejected(found: Replayed) -> list[int]:
        return [int((found.rows.outcome[found.rows.workload == which] == 1).sum()) for which in (0, 1)]

    assert min(rejected(plain)) > 0
    assert rejected(spared)[0] == 0
    assert rejected(spared)[1] > 0


def test_an_override_of_a_workload_that_is_not_there_is_refused_with_the_nearest() -> None:
    policy = Policy(metadata=Metadata(name="p"), spec=PolicySpec(overrides={"voic": PolicyOverride()}))
    with pytest.raises(InputError) as raised:
        check_grid([*PARTS, policy])
    assert raised.value.where == "policy p, spec.overrides.voic"
    assert raised.value.fix == "did you mean voice?"


def test_every_field_of_an_override_is_a_field_of_the_policy_with_the_same_limits() -> None:
    """Otherwise an override could say what a policy may not."""
    from gridctl.manifest.shape import fields_of

    whole, part = fields_of(PolicySpec), fields_of(PolicyOverride)
    assert {name: field.range for name, field in part.items()} == {name: whole[name].range for name in part}
    assert PolicySpec().for_workload("voice") == PolicySpec()
    given = {name: getattr(PolicySpec(reject_ratio=3.0), name) for name in part}
    assert PolicySpec(overrides={"v": PolicyOverride(**given)}).for_workload("v").reject_ratio == 3.0
    assert msgspec.structs.asdict(PolicyOverride()) == dict.fromkeys(part)
