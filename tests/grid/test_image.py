"""Resources → engines: which exist, in which order, what they cost and whether they take traffic."""

from __future__ import annotations

import pytest
from smallgrids import api, cluster, deployment, gpu, model, price_book, site, workload

from gridctl.engine.state import API, GPU, SERVERLESS, UNUSED
from gridctl.errors import InputError, NotFoundError
from gridctl.grid.image import GridImage, build_image
from gridctl.resources import Resource, Serverless, Variant

FUNCTIONS = Serverless(variants=("m/bf16",), concurrency=3, usd_per_ms=None)


def image(*resources: Resource, book: str = "default") -> GridImage:
    return build_image([gpu(), model(), workload(), *resources], price_book=book)


def test_engines_are_ordered_by_cluster_deployment_replica_then_functions_then_the_api() -> None:
    seen = image(
        site("paris", serverless=FUNCTIONS),
        site("berlin", "DE"),
        cluster("b", "paris", deployment(replicas=2), deployment(tensor_parallel=2), gpus=7),
        cluster("a", "berlin"),
        price_book(api()),
    )
    rows = [(one.facts.cluster, one.facts.kind, one.deployment, one.spec.gpus) for one in seen.engines]
    assert rows == [
        ("a", "gpu", 0, 1),
        ("b", "gpu", 1, 1),
        ("b", "gpu", 1, 1),
        ("b", "gpu", 2, 2),
        ("b", "unused", -1, 3),
        ("", "serverless", 3, 0),
        ("", "api", 4, 0),
    ]
    assert [one.spec.kind for one in seen.engines] == [GPU, GPU, GPU, GPU, UNUSED, SERVERLESS, API]
    assert sum(one.facts.gpus for one in seen.engines) == 8


def test_gpus_without_a_deployment_are_paid_for_and_serve_nobody() -> None:
    unused = image(site("paris"), cluster("c", "paris", gpus=4)).engines[1]
    assert (unused.facts.kind, unused.facts.gpus, unused.takes_traffic) == ("unused", 3, False)
    assert unused.facts.usd_per_gpu_hour == 1.0


def test_the_cluster_s_own_price_wins_over_the_book_and_the_book_over_the_built_in_one() -> None:
    book = price_book(gpu_hour_usd={"toy": 2.0, "l4": 3.0})

    def hour(**spec: object) -> float:
        return image(site("paris"), book, cluster("c", "paris", **spec)).engines[0].facts.usd_per_gpu_hour

    assert hour(usd_per_gpu_hour=7.0) == 7.0
    assert hour(usd_per_gpu_hour=0.0) == 0.0
    assert hour(usd_per_gpu_hour=None) == 2.0
    assert hour(usd_per_gpu_hour=None, gpu="l4") == 3.0
    assert hour(usd_per_gpu_hour=None, gpu="l40s") > 0
    with pytest.raises(InputError, match="no price for an hour of toy"):
        image(site("paris"), cluster("c", "paris", usd_per_gpu_hour=None))


def test_the_site_s_egress_power_and_function_prices_win_over_the_book() -> None:
    book = price_book(egress_usd_per_gb=0.05, usd_per_kwh=0.1, serverless_usd_per_ms=1e-6)
    own = Serverless(variants=("m/bf16",), usd_per_ms=0.0)
    plain = image(book, site("paris", serverless=FUNCTIONS), cluster("c", "paris")).engines
    priced = site("paris", egress_usd_per_gb=0.0, usd_per_kwh=0.3, serverless=own)
    special = image(book, priced, cluster("c", "paris")).engines
    assert [one.facts.egress_usd_per_gb for one in plain] == [0.05, 0.05]
    assert [one.facts.egress_usd_per_gb for one in special] == [0.0, 0.0]
    assert (plain[1].facts.usd_per_serverless_ms, special[1].facts.usd_per_serverless_ms) == (1e-6, 0.0)
    assert (plain[0].facts.usd_per_kwh, special[0].facts.usd_per_kwh) == (0.1, 0.3)


def test_prices_for_the_router_are_those_of_the_accounts() -> None:
    book = price_book(api(usd_per_mtok_input=1.5, usd_per_mtok_output=6.0), egress_usd_per_gb=0.25)
    parts = (site("paris", serverless=Serverless(variants=("m/bf16",), usd_per_ms=2e-6)), book)
    wide, function, public = image(*parts, cluster("c", "paris", deployment(tensor_parallel=4))).engines
    assert wide.gpu_usd_per_ps == pytest.approx(4 * 1.0 / 3.6e15)  # 4 GPUs at a dollar an hour of 3.6e15 ps
    assert wide.usd_per_output_token == function.usd_per_output_token == pytest.approx(4 * 0.25 / 1e9)  # 4 bytes
    assert function.cash_usd_per_ps == pytest.approx(2e-6 / 1e9)
    assert (public.usd_per_input_token, public.usd_per_output_token) == pytest.approx((1.5e-6, 6e-6))


def test_a_price_book_that_is_named_must_exist() -> None:
    parts = (site("paris"), cluster("c", "paris"), price_book(name="winter", egress_usd_per_gb=0.9))
    assert image(*parts, book="winter").engines[0].facts.egress_usd_per_gb == 0.9
    assert image(*parts).notes[0] == "no price book named default: built-in GPU-hour prices are used"
    with pytest.raises(NotFoundError) as raised:
        image(*parts, book="wintr")
    assert raised.value.fix == "did you mean winter?"


@pytest.mark.parametrize("state", ["cordoned", "draining", "down"])
def test_a_site_or_cluster_that_is_not_active_takes_no_traffic(state: str) -> None:
    assert not image(site("paris", state=state), cluster("c", "paris")).engines[0].takes_traffic
    assert not image(site("paris"), cluster("c", "paris", state=state)).engines[0].takes_traffic
    assert not image(site("paris", state=state, serverless=FUNCTIONS)).engines[0].takes_traffic


def test_kv_blocks_follow_from_memory_by_hand() -> None:
    """10,000 tokens of KV asked for beside 256 · 256 · 2 · 8 = 1 MiB of activations, which is 128 tokens of KV."""
    parts = [gpu(kv_tokens=10_000), model(), site("paris"), cluster("c", "paris", deployment(block_size=16))]
    assert build_image(parts).engines[0].spec.kv_blocks == (10_000 - 128) // 16


def test_engines_of_equal_deployments_share_one_step_time_table() -> None:
    seen = image(site("a"), site("b"), cluster("x", "a", deployment(replicas=2)), cluster("y", "b"))
    assert len({id(one.spec.profile) for one in seen.engines}) == 1
    other = model("m", Variant(name="bf16", weight_gib=0.1), Variant(name="big", weight_gib=0.9))
    seen = build_image([gpu(), other, site("a"), cluster("x", "a", deployment(), deployment("m/big"))])
    assert len({id(one.spec.profile) for one in seen.engines}) == 2


def test_a_grid_without_any_engine_is_refused() -> None:
    for parts in ([], [site("paris")], [site("paris"), price_book(api())]):
        with pytest.raises(InputError, match="the grid has no engine"):
            image(*parts)
