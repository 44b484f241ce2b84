"""Selectors: terms, fields, labels, and a cluster's site."""

from __future__ import annotations

import pytest

from gridctl.errors import UsageError
from gridctl.orchestrator.selector import explain_nothing, parse_selector
from gridctl.resources import Cluster, ClusterSpec, Metadata, Site, SiteSpec

PARIS = Site(
    metadata=Metadata(name="paris", labels={"carrier": "a"}),
    spec=SiteSpec(lat=48.9, lon=2.4, country="FR", tier="edge"),
)
GPU = Cluster(metadata=Metadata(name="c"), spec=ClusterSpec(site="paris", gpu="l4", gpus=2))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("tier=edge", True),
        ("tier==edge", True),
        ("tier!=edge", False),
        ("tier=edge,country=DE", False),
        ("carrier", True),
        ("!carrier", False),
        ("rack", False),
        ("!rack", True),
        ("rack!=7", True),
        ("name=paris", True),
        ("jurisdiction=EU", True),
        (" tier = edge , carrier=a ", True),
    ],
)
def test_terms_choose_sites(text: str, chosen: bool) -> None:
    assert parse_selector([text]).holds(PARIS) is chosen


def test_several_selectors_must_all_hold() -> None:
    assert parse_selector(["tier=edge", "country=FR"]).holds(PARIS)
    assert not parse_selector(["tier=edge", "country=DE"]).holds(PARIS)


def test_a_cluster_answers_for_its_site() -> None:
    selector = parse_selector(["country=FR,gpu=l4,gpus=2"])
    assert selector.needs_sites
    assert selector.holds(GPU, {"paris": PARIS})
    assert not selector.holds(GPU, {})


@pytest.mark.parametrize("text", ["", "=x", "a=b=c", "tier=edge,,", "!a=b", "a b=c"])
def test_what_is_no_term_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_selector([text])


def test_an_unknown_key_is_named() -> None:
    assert explain_nothing(parse_selector(["teir=edge"]), Site, [PARIS]) == "no site has 'teir'; did you mean tier?"
    assert explain_nothing(parse_selector(["tier=core"]), Site, [PARIS]) == "no site matches"
    assert explain_nothing(parse_selector(["tier=edgy"]), Site, [PARIS]) == "no site has tier=edgy; did you mean edge?"
