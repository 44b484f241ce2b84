"""The public traces over a generated world of 440 sites: the books balance, and reuse stays below what is possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from books import audit

from gridctl.accounts.rows import COMPLETED
from gridctl.geography.world import generate_world
from gridctl.grid.image import build_image
from gridctl.replay.replay import replay
from gridctl.resources import PolicySpec, Resource, Site, Workload
from gridctl.traces.overlay import overlay
from gridctl.traces.reader import read_trace

CONVERSATION = "AzureLLMInferenceTrace_conv.first-half.csv.gz"
CODE = "AzureLLMInferenceTrace_code.first-half.csv.gz"
MOONCAKE = "mooncake_conversation_trace.first-half.jsonl.gz"
INFINITE_CACHE_SHARE = 0.3465
"""Prompt tokens of the Mooncake file that a cache of any size could have held, as its own description counts them."""


@pytest.fixture(scope="module")
def world() -> list[Resource]:
    return generate_world(440, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "requests"), [(CONVERSATION, 9739), (CODE, 5353), (MOONCAKE, 5606)])
def test_every_request_and_token_is_accounted_for(
    real_traces: Path, world: list[Resource], file: str, requests: int
) -> None:
    bare = read_trace(real_traces / file)
    sites = [one for one in world if isinstance(one, Site)]
    trace = overlay(bare, sites, [one for one in world if isinstance(one, Workload)], 1)
    image, policy = build_image(world), PolicySpec()
    result = replay(image, trace, policy)
    audit(image, trace, policy, result)
    assert len(result.rows) == requests
    assert int(result.rows.input_tokens.sum()) == int(bare.input_tokens.sum())
    assert int(result.rows.output_tokens.sum()) == int(bare.output_tokens.sum())
    assert np.mean(result.rows.outcome == COMPLETED) > 0.9
    share = result.rows.cached_tokens.sum() / result.rows.input_tokens.sum()
    if file == MOONCAKE:
        assert 0.05 < share <= INFINITE_CACHE_SHARE
    else:
        assert share == 0  # these traces name no prefixes
