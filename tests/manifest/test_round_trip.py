"""What is written reads back equal, in every format, for resources of every kind drawn from the kinds' own types."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from gridctl.errors import UsageError
from gridctl.manifest import dump, parse_manifest
from gridctl.resources import BUILTIN_GPUS, KINDS, Cluster, Gpu, Link, Policy, Resource, Site, Workload

_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
        st.sampled_from("\r\n\t\x85\u2028\ufeff\"';,:#-[]{}=+@ \\"),
    ),
    max_size=12,
)
_TRAPS = st.sampled_from(
    [
        "NO",
        "yes",
        "null",
        "~",
        "1e5",
        "0x1F",
        "1:30",
        "2026-11-23",
        " x ",
        "",
        "[a]",
        '"',
        "a;b",
        "=1+1",
        "<<",
        "? ",
        "- ",
        "#",
        "---",
    ]
)
_NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,6}[a-z0-9])?\Z")


def values_of(type_: inspect.Type) -> st.SearchStrategy[Any]:
    """Plain values that a type accepts, small but hostile."""
    match type_:
        case inspect.Metadata():
            return values_of(type_.type)
        case inspect.UnionType():
            return st.one_of(*(values_of(one) for one in type_.types))
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType():
            return st.sampled_from(type_.values)
        case inspect.IntType():
            return st.integers(type_.ge, type_.le)
        case inspect.FloatType():
            low, high = (
                (type_.ge if type_.ge is not None else type_.gt),
                (type_.le if type_.le is not None else type_.lt),
            )
            return st.floats(low, high, exclude_min=type_.gt is not None, exclude_max=type_.lt is not None)
        case inspect.StrType():
            if type_.pattern is None:
                return st.one_of(_TEXT, _TRAPS)
            if "://" in type_.pattern:
                return st.tuples(st.sampled_from(["http://", "https://"]), _NAMES).map("".join)
            if "/" in type_.pattern:
                return st.tuples(_NAMES, _NAMES).map("/".join)
            return (
                _NAMES
                if "[a-z" in type_.pattern
                else st.from_regex(type_.pattern).filter(lambda text: text.isprintable())
            )
        case inspect.VarTupleType():
            return st.lists(values_of(type_.item_type), min_size=type_.min_length or 0, max_size=3)
        case inspect.DictType():
            return st.dictionaries(values_of(type_.key_type), values_of(type_.value_type), max_size=3)
        case inspect.StructType():
            required = {one.name: values_of(one.type) for one in type_.fields if one.required}
            optional = {one.name: values_of(one.type) for one in type_.fields if not one.required}
            return st.fixed_dictionaries(required, optional=optional)
    if isinstance(type_, inspect.TupleType):
        return st.tuples(*(values_of(item) for item in type_.item_types))
    raise NotImplementedError(type_)


def resources_of(kind: type[Resource]) -> st.SearchStrategy[Resource]:
    """Resources of a kind."""
    return values_of(inspect.type_info(kind)).map(lambda value: msgspec.convert({**value, "kind": kind.__name__}, kind))


def unique(resources: list[Resource]) -> list[Resource]:
    """The first resource of each kind and name."""
    return list({(one.kind, one.name): one for one in reversed(resources)}.values())


_ANY = st.lists(st.one_of(*(resources_of(kind) for kind in KINDS.values())), min_size=1, max_size=4).map(unique)


@pytest.mark.parametrize("format_", ["yaml", "json", "jsonl"])
@given(resources=_ANY)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_reads_back_equal(format_: Any, resources: list[Resource]) -> None:
    text = dump(resources, format_)
    assert [one.resource for one in parse_manifest(text.encode(), name=f"grid.{format_}")] == resources
    assert [one.resource for one in parse_manifest(text.encode(), name="<stdin>")] == resources


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.noun)
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_csv_of_one_kind_reads_back_equal(kind: type[Resource], data: st.DataObject) -> None:
    resources = unique(data.draw(st.lists(resources_of(kind), min_size=1, max_size=3)))
    text = dump(resources, "csv")
    assert [one.resource for one in parse_manifest(text.encode(), name="grid.csv")] == resources


@given(resources=_ANY)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_another_yaml_reader_sees_the_same_values(resources: list[Resource]) -> None:
    """PyYAML's own loader, with all of YAML 1.1's surprises on, reads what the JSON form says."""
    documents = json.loads(dump(resources, "json"))["items"]
    assert list(yaml.safe_load_all(dump(resources, "yaml"))) == documents


def test_equal_resources_are_equal_text_whichever_file_they_came_from() -> None:
    spelled_out = b"""
kind: Policy
metadata: {name: p, labels: {b: "1", a: "2"}}
spec: {algorithm: grid, telemetry: {delay_ms: 50, in_flight: local}}
"""
    short = b'{"kind":"Policy","metadata":{"labels":{"a":"2","b":"1"},"name":"p"},"spec":{}}'
    texts = {dump([one.resource for one in parse_manifest(data, name="x")], "yaml") for data in (spelled_out, short)}
    assert texts == {
        'apiVersion: gridctl/v1\nkind: Policy\nmetadata:\n  name: p\n  labels:\n    a: "2"\n    b: "1"\nspec: {}\n'
    }


def test_the_yaml_of_a_cluster_is_what_a_person_would_write() -> None:
    cluster = msgspec.convert(
        {
            "kind": "Cluster",
            "metadata": {"name": "oslo-1"},
            "spec": {
                "site": "no-oslo-01",
                "gpu": "l40s",
                "gpus": 4,
                "deployments": [
                    {"variant": "llama-3.1-8b/fp8", "replicas": 2, "engine": {"max_num_seqs": 64}},
                    {"variant": "qwen3-4b/int8"},
                ],
            },
        },
        Cluster,
    )
    assert dump([cluster], "yaml") == (
        "apiVersion: gridctl/v1\nkind: Cluster\nmetadata:\n  name: oslo-1\nspec:\n"
        "  site: no-oslo-01\n  gpu: l40s\n  gpus: 4\n  deployments:\n"
        "    - variant: llama-3.1-8b/fp8\n      replicas: 2\n      engine:\n        max_num_seqs: 64\n"
        "    - variant: qwen3-4b/int8\n"
    )


def test_the_json_is_one_envelope_and_jsonl_one_line_each() -> None:
    gpus = [BUILTIN_GPUS["l4"], BUILTIN_GPUS["a30"]]
    envelope = json.loads(dump(gpus, "json"))
    assert (envelope["apiVersion"], envelope["kind"]) == ("gridctl/v1", "List")
    assert [json.loads(line) for line in dump(gpus, "jsonl").splitlines()] == envelope["items"]
    assert list(envelope["items"][0]) == ["apiVersion", "kind", "metadata", "spec"]


def test_the_csv_of_links_has_a_column_for_each_field() -> None:
    link = msgspec.convert(
        {"kind": "Link", "metadata": {"name": "a-b"}, "spec": {"source": "a", "target": "b", "rtt_ms": 12.5}}, Link
    )
    assert dump([link], "csv") == "kind,name,source,target,rtt_ms\nLink,a-b,a,b,12.5\n"


def test_formulas_do_not_run_in_a_spreadsheet() -> None:
    site = msgspec.convert(
        {
            "kind": "Site",
            "metadata": {"name": "a"},
            "spec": {"lat": 1, "lon": 2, "country": "FR", "tier": "edge", "city": "=HYPERLINK(1)"},
        },
        Site,
    )
    cells = dump([site], "csv").splitlines()[1].split(",")
    assert cells[6].startswith('"""=')


def test_a_csv_of_two_kinds_is_refused() -> None:
    with pytest.raises(UsageError, match="one kind"):
        dump(
            [
                BUILTIN_GPUS["l4"],
                parse_manifest(b'{"kind":"Policy","metadata":{"name":"p"},"spec":{}}', name="-")[0].resource,
            ],
            "csv",
        )


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="'xml'"):
        dump([BUILTIN_GPUS["l4"]], "xml")  # type: ignore[arg-type]


def test_nothing_to_write_is_no_text_or_an_empty_envelope() -> None:
    assert (dump([], "yaml"), dump([], "jsonl"), dump([], "csv")) == ("", "", "")
    assert json.loads(dump([], "json"))["items"] == []


def test_every_kind_is_drawn_by_these_tests() -> None:
    assert {Gpu, Policy, Workload, Site} <= set(KINDS.values())


def test_the_text_does_not_depend_on_the_hash_seed() -> None:
    code = "from gridctl.manifest import *; from gridctl.resources import *; print(dump(BUILTIN_GPUS.values(), 'yaml'))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
