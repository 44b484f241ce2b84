"""What may be bought, and at which price."""

from __future__ import annotations

import pytest
from smallgrids import cluster, gpu, model, price_book, site

from gridctl.errors import InputError, NotFoundError
from gridctl.grid.view import GridView
from gridctl.planning.offers import Prices, check_models, engine_offers
from gridctl.resources import BUILTIN_GPUS, Variant


def test_a_variant_is_offered_on_the_fewest_gpus_that_hold_it() -> None:
    # 20 GiB of weights on GPUs of 10: 0.9 of two holds 18 less working memory, of four 36.
    large = model("large", Variant(name="bf16", weight_gib=20.0))
    small = GridView([BUILTIN_GPUS["l4"], large])
    assert [offer.tensor_parallel for offer in engine_offers(small, ["l4"], ["large"])] == [2]


def test_a_tight_fit_offers_the_next_width_too() -> None:
    view = GridView([BUILTIN_GPUS["l4"], model("m", Variant(name="bf16", weight_gib=12.0))])
    assert [offer.tensor_parallel for offer in engine_offers(view, ["l4"], ["m"], wider=True)] == [1, 2]
    roomy = GridView([BUILTIN_GPUS["l4"], model("m", Variant(name="bf16", weight_gib=1.0))])
    assert [offer.tensor_parallel for offer in engine_offers(roomy, ["l4"], ["m"], wider=True)] == [1]


def test_a_variant_that_no_eight_gpus_hold_is_not_offered() -> None:
    view = GridView([BUILTIN_GPUS["l4"], model("m", Variant(name="bf16", weight_gib=400.0))])
    assert engine_offers(view, ["l4"], ["m"]) == []


def test_unknown_names_are_answered_with_the_nearest() -> None:
    view = GridView([gpu(), model()])
    with pytest.raises(NotFoundError) as found:
        engine_offers(view, ["l40"], ["m"])
    assert found.value.fix == "did you mean l40s?"
    with pytest.raises(NotFoundError):
        check_models(view, ["nobody"])


def test_engine_limits_are_those_the_grid_runs_the_variant_with(view: GridView) -> None:
    (offer,) = engine_offers(view, ["toy"], ["m"])
    assert offer.engine == view.clusters["core"].spec.deployments[0].engine


def test_the_nearest_declared_price_wins_then_the_book_with_its_markup() -> None:
    book = price_book(gpu_hour_usd={"toy": 2.0, "l4": 1.0})
    sites = [site("paris"), site("lyon"), site("nice"), site("core", tier="core")]
    declared = [
        cluster("a", "paris", usd_per_gpu_hour=5.0),
        cluster("b", "lyon", usd_per_gpu_hour=3.0),
        cluster("c", "core", usd_per_gpu_hour=None),
    ]
    prices = Prices(GridView([gpu(), model(), book, *sites, *declared]), markup=0.5)
    assert prices.usd_per_gpu_hour("toy", sites[0]) == 5.0  # the cluster there
    assert prices.usd_per_gpu_hour("toy", sites[2]) == 3.0  # the lower median outside the core
    assert prices.usd_per_gpu_hour("toy", sites[3]) == 2.0  # the book, no markup in the core
    assert prices.usd_in("l4", core=False) == 1.5  # the book, half as much again outside it


def test_electricity_is_added_where_it_is_priced() -> None:
    there = site("paris", usd_per_kwh=0.2)
    prices = Prices(GridView([gpu(), there]))
    assert prices.electricity("toy", there) == pytest.approx(0.1 * 0.2)  # 100 W


def test_a_gpu_without_any_price_is_refused() -> None:
    with pytest.raises(InputError, match="no price for an hour of toy"):
        Prices(GridView([gpu(), site("paris")])).usd_in("toy", core=True)


def test_an_unknown_price_book_is_refused() -> None:
    with pytest.raises(NotFoundError, match="price book nope"):
        Prices(GridView([price_book()]), "nope")
