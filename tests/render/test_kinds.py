"""Rows and documents of every kind."""

from __future__ import annotations

import json

import pytest

from gridctl.manifest import parse_manifest
from gridctl.render.kinds import columns_of, document, row_of
from gridctl.render.rows import render_rows
from gridctl.resources import (
    BUILTIN_GPUS,
    KINDS,
    ChunkKnot,
    Cluster,
    ClusterSpec,
    DecodeRow,
    Deployment,
    Gate,
    GateSpec,
    JurisdictionRule,
    Link,
    LinkSpec,
    Metadata,
    Model,
    ModelSpec,
    Objective,
    Policy,
    PolicySpec,
    PriceBook,
    PriceBookSpec,
    Profile,
    ProfileRange,
    ProfileSpec,
    Resource,
    Serverless,
    Site,
    SiteSpec,
    Variant,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.model import Architecture

_NAME = Metadata(name="x", labels={"carrier": "a"})
# Llama-3.1-8B's config.json; 8.03 billion parameters by its model card.
_LLAMA = Architecture(
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=128256,
)
SAMPLES: tuple[Resource, ...] = (
    Site(
        metadata=_NAME,
        spec=SiteSpec(
            lat=1.0, lon=2.0, country="FR", tier="edge", serverless=Serverless(variants=("m/v",), concurrency=6)
        ),
    ),
    Cluster(
        metadata=_NAME,
        spec=ClusterSpec(
            site="s", gpu="l4", gpus=8, deployments=(Deployment(variant="m/v", replicas=2, tensor_parallel=3),)
        ),
    ),
    BUILTIN_GPUS["l4"],
    Model(metadata=_NAME, spec=ModelSpec(architecture=_LLAMA, variants=(Variant(name="bf16"),))),
    Workload(
        metadata=_NAME,
        spec=WorkloadSpec(
            objectives=(Objective(metric="ttft_ms", threshold_ms=500.0),),
            models=("m",),
            jurisdiction=JurisdictionRule(rule="same-country"),
        ),
    ),
    Policy(metadata=_NAME, spec=PolicySpec()),
    PriceBook(metadata=_NAME, spec=PriceBookSpec(gpu_hour_usd={"l4": 0.7})),
    Link(metadata=_NAME, spec=LinkSpec(source="a", target="b", rtt_ms=3.5)),
    Gate(metadata=_NAME, spec=GateSpec(metric="ttft_ms.p99", op="<=", value=500.0)),
    Profile(
        metadata=_NAME,
        spec=ProfileSpec(
            gpu="l4",
            architecture=_LLAMA,
            valid=ProfileRange(tokens=8, sequences=2, kv_tokens=64),
            dense=((1, 900.0), (8, 1000.0)),
            sample=((1, 60.0),),
            decode=(DecodeRow(sequences=1, kv=((16, 40.0),)),),
            chunk=(ChunkKnot(tokens=8, us=500.0, us_per_kv_token=2.0),),
        ),
    ),
)


def test_every_kind_has_a_sample_here() -> None:
    assert {type(sample) for sample in SAMPLES} == set(KINDS.values())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_every_column_finds_its_key_in_the_row(sample: Resource) -> None:
    row = row_of(sample, version=1)
    assert {column.key for column in columns_of(type(sample))} <= set(row)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_a_document_writes_out_defaults_and_reads_back_equal(sample: Resource) -> None:
    plain = document(sample)
    assert set(plain["spec"]) == set(sample.spec.__struct_fields__)  # type: ignore[arg-type]
    (declared,) = parse_manifest(json.dumps(plain).encode(), name="x.json")
    assert declared.resource == sample


def test_rows_hold_what_a_reader_would_count_by_hand() -> None:
    site, cluster, _, model, workload, *_ = (row_of(sample) for sample in SAMPLES)
    assert (site["serverless"], site["gpus"]) == (6, 0)
    assert row_of(SAMPLES[0], gpus={"x": 12})["gpus"] == 12
    assert (cluster["gpus_used"], cluster["deployments"]) == (6, ["m/v:2x3"])
    assert model["parameters_b"] == pytest.approx(8.03, abs=0.01)
    assert workload["objectives"] == ["ttft p99<=500ms"]


def test_a_profile_s_row_adds_up_its_shortest_and_its_longest_step() -> None:
    """900 + 60 + 40 µs of one decode; 1,000 + 500 of a full prefill."""
    row = row_of(SAMPLES[-1])
    assert (row["decode_ms"], row["full_step_ms"], row["origin"]) == (1.0, 1.5, "built-in")


def test_a_list_of_sites_in_json_is_the_documents() -> None:
    text = render_rows([{}], (), "json", kind="SiteList", documents=[document(SAMPLES[0])])
    assert json.loads(text)["items"][0]["metadata"]["labels"] == {"carrier": "a"}
