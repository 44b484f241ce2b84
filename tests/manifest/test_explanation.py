"""explain and the JSON Schemas: complete, true to the kinds, and helpful about mistakes."""

from typing import Any

import msgspec
import pytest

from gridctl.errors import NotFoundError
from gridctl.manifest import explain, schema
from gridctl.manifest.fields import DESCRIPTIONS
from gridctl.manifest.shape import fields_of, struct_of
from gridctl.resources import KINDS, Metadata


def structs() -> dict[str, type[msgspec.Struct]]:
    """Every struct that a kind is made of."""
    found: dict[str, type[msgspec.Struct]] = {"Metadata": Metadata}
    waiting = list(KINDS.values())
    while waiting:
        for field in fields_of(waiting.pop()).values():
            inner = struct_of(field.type)
            if inner is not None and inner.__name__ not in found:
                found[inner.__name__] = inner
                waiting.append(inner)
    return found


def test_every_field_of_every_kind_is_described_and_nothing_else():
    expected = {name: set(struct.__struct_fields__) for name, struct in structs().items()}
    assert {name: set(fields) for name, fields in DESCRIPTIONS.items()} == expected


def test_every_description_is_one_sentence_of_its_own():
    sentences = [sentence for fields in DESCRIPTIONS.values() for sentence in fields.values()]
    for sentence in sentences:
        assert sentence[0].isupper(), sentence
        assert sentence.endswith("."), sentence
        assert 15 < len(sentence) < 110, sentence


def test_a_kind_is_explained_field_by_field():
    rows = explain("site")
    assert [row["field"] for row in rows][:4] == ["metadata.name", "metadata.labels", "spec.lat", "spec.lon"]
    assert {"spec.serverless", "spec.serverless.concurrency"} <= {row["field"] for row in rows}
    assert all(row["description"] for row in rows)
    assert {tuple(row) for row in rows} == {("field", "type", "required", "default", "allowed", "description")}


@pytest.mark.parametrize(
    ("path", "field", "type_", "default", "allowed"),
    [
        ("site.tier", "spec.tier", "text", None, "edge | metro | regional | core"),
        ("sites.spec.lat", "spec.lat", "number", None, "-90 to 90"),
        ("Site.name", "metadata.name", "text", None, "lower-case letters, digits, '-' and '.'; 1 to 63 characters"),
        ("site.population", "spec.population", "whole number", "0", "0 to 1000000000"),
        ("site.egress_usd_per_gb", "spec.egress_usd_per_gb", "number", "none", "0 to 1000000"),
        ("workload.attainment", "spec.attainment", "number", "0.99", "more than 0, below 1"),
        (
            "workload.objectives.metric",
            "spec.objectives[].metric",
            "text",
            None,
            "network_ms | ttft_ms | tpot_ms | e2e_ms",
        ),
        ("workload.objectives[].percentile", "spec.objectives[].percentile", "number", "99", "1 to below 100"),
        (
            "workload.models",
            "spec.models",
            "list of text",
            None,
            "at least 1; lower-case letters, digits, '-' and '.'; 1 to 63 characters",
        ),
        (
            "workload.tenants",
            "spec.tenants",
            "list of text",
            "[default]",
            "lower-case letters, digits, '-' and '.'; 1 to 63 characters",
        ),
        ("price.gpu_hour_usd", "spec.gpu_hour_usd", "mapping", "{}", "values: 0 to 1000000"),
        ("policy.allow_reject", "spec.allow_reject", "true or false", "true", "true | false"),
        ("policy.telemetry", "spec.telemetry", "mapping", "see its fields", ""),
        ("site.labels", "metadata.labels", "mapping", "{}", "values: up to 256 characters"),
    ],
)
def test_a_field_is_explained(path, field, type_, default, allowed):
    row = explain(path)[0]
    assert (row["field"], row["type"], row["default"], row["allowed"]) == (field, type_, default, allowed)


def test_a_field_with_fields_explains_them_too():
    assert [row["field"] for row in explain("cluster.deployments.engine")][:2] == [
        "spec.deployments[].engine",
        "spec.deployments[].engine.max_num_seqs",
    ]


@pytest.mark.parametrize(
    ("path", "words", "fix"),
    [
        ("siite", "no kind 'siite'", "did you mean site?"),
        ("", "no kind ''", "known: "),
        ("site.teir", "site has no field 'teir'", "did you mean site.tier?"),
        (
            "workload.objectives.metrics",
            "workload.objectives has no field 'metrics'",
            "did you mean workload.objectives.metric?",
        ),
        ("site.tier.x", "site.tier has no fields of its own", "gridctl explain site.tier"),
        ("site.metadata.nam", "site has no field 'nam'", "did you mean site.name?"),
        ("site." + "x" * 10_000, "has no field", "known: lat"),
    ],
)
def test_a_mistyped_path_names_the_closest(path, words, fix):
    with pytest.raises(NotFoundError) as caught:
        explain(path)
    assert words in caught.value.what
    assert fix in str(caught.value.fix)
    assert len(caught.value.what) < 150


def objects(node: Any) -> list[dict[str, Any]]:
    """Every object schema inside a schema."""
    if isinstance(node, list):
        return [found for one in node for found in objects(one)]
    if not isinstance(node, dict):
        return []
    here = [node] if node.get("type") == "object" and "properties" in node else []
    return here + [found for one in node.values() for found in objects(one)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.noun)
def test_a_schema_is_closed_titled_and_described(kind):
    document = schema(kind)
    assert document["title"] == kind.__name__
    assert document["description"] == kind.summary
    found = objects(document)
    assert len(found) >= 3
    for one in found:
        assert one["additionalProperties"] is False
        assert one["title"]
        assert one["description"]
        if one["title"] in DESCRIPTIONS:
            assert {name: field["description"] for name, field in one["properties"].items()} == DESCRIPTIONS[
                one["title"]
            ]


def test_a_schema_carries_ranges_and_choices():
    spec = schema(KINDS["Site"])["$defs"]["SiteSpec"]
    assert (spec["properties"]["lat"]["minimum"], spec["properties"]["lat"]["maximum"]) == (-90, 90)
    assert set(spec["properties"]["tier"]["enum"]) == {"edge", "metro", "regional", "core"}
    assert set(spec["required"]) == {"lat", "lon", "country", "tier"}


def test_two_schemas_do_not_share_state():
    schema(KINDS["Site"])["$defs"].clear()
    assert schema(KINDS["Site"])["$defs"]
