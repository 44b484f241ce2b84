"""Every wrong field is named with its line, its column and the edit that repairs it, all in one pass."""

import msgspec
import pytest
from msgspec import inspect

from gridctl.manifest.quantities import meant_number
from gridctl.manifest.shape import bare_type, fields_of, item_type
from gridctl.resources import KINDS


@pytest.mark.parametrize(
    ("old", "new", "where", "words", "fix"),
    [
        (
            "lat: 59.91",
            "lat: 95",
            "f.yaml:6:8",
            "site no-oslo-01: spec.lat is 95; it must be -90 to 90",
            "explain site.lat",
        ),
        ("lat: 59.91", "lat: .nan", "f.yaml:6:8", "spec.lat is NaN; it must be -90 to 90", "explain site.lat"),
        ("lat: 59.91", "lat: -.inf", "f.yaml:6:8", "spec.lat is -infinity", "explain site.lat"),
        ("lat: 59.91", "lat: north", "f.yaml:6:8", 'spec.lat is the text "north", not a number', "-90 to 90"),
        ("lat: 59.91", 'lat: "59.91"', "f.yaml:6:8", "not a number", "write 59.91 without quotes"),
        ("lat: 59.91", "lat: true", "f.yaml:6:8", "spec.lat is true, not a number", "write a number"),
        ("lat: 59.91", "lat:", "f.yaml:6:7", "spec.lat is empty, not a number", "write a number"),
        ("lat: 59.91", "lat: [1]", "f.yaml:6:8", "spec.lat is a list, not a number", "write a number"),
        ("  lat: 59.91\n", "", "f.yaml:6:3", "spec.lat is missing", "add lat: (number, -90 to 90)"),
        ("tier: edge", "tier: egde", "f.yaml:9:9", "edge | metro | regional | core", "did you mean edge?"),
        ("tier: edge", "tier: Edge", "f.yaml:9:9", '"Edge"', "did you mean edge?"),
        ("tier: edge", "tier: 1", "f.yaml:9:9", "spec.tier is 1", "explain site.tier"),
        ("NO", "no", "f.yaml:8:12", '"no"; it must be ISO 3166-1', "write NO"),
        ("NO", "NOR", "f.yaml:8:12", '"NOR"', "explain site.country"),
        ("NO", "false", "f.yaml:8:12", "spec.country is false, not text", "put it in quotes"),
        (
            "tier: edge",
            "tier: edge\n  cache-gib: 5",
            "f.yaml:10:3",
            "spec.cache-gib is not a field here",
            "did you mean cache_gib?",
        ),
        (
            "tier: edge",
            "tier: edge\n  x: 5",
            "f.yaml:10:3",
            "spec.x is not a field here",
            "the fields here are lat, lon",
        ),
        ("spec:", "tier: core\nspec:", "f.yaml:5:1", "tier is not a field here", "did you mean spec.tier?"),
        (
            "tier: edge",
            "tier: edge\n  population: -1",
            "f.yaml:10:15",
            "population is -1; it must be 0 to 1000000000",
            "explain",
        ),
        ("tier: edge", "tier: edge\n  population: 1.5", "f.yaml:10:15", "1.5, not a whole number", "round it"),
        ("tier: edge", "tier: edge\n  population: 2.0", "f.yaml:10:15", "2.0, not a whole number", "write 2"),
        ("tier: edge", "tier: edge\n  population: 709k", "f.yaml:10:15", '"709k"', "write 709000; the unit"),
        ("tier: edge", "tier: edge\n  cache_gib: 500 MiB", "f.yaml:10:14", '"500 MiB"', "write 0.48828125; the unit"),
        (
            "tier: edge",
            "tier: edge\n  serverless: 5",
            "f.yaml:10:15",
            "serverless is 5, not a mapping",
            "indent its fields",
        ),
        ("no-oslo-01", "No Osló 01", "f.yaml:4:9", "lower-case letters", "write no-oslo-01"),
        ("no-oslo-01", '"a\\n"', "f.yaml:4:9", "lower-case letters", "write a"),
        ("no-oslo-01", "a" * 64, "f.yaml:4:9", "1 to 63 characters", "write " + "a" * 63),
        ("no-oslo-01", "x\n  labels: {v: 1.1}", "f.yaml:5:15", "labels.v is 1.1, not text", '"1.1"'),
        ("no-oslo-01", "x\n  labels: [a]", "f.yaml:5:11", "labels is a list, not a mapping", "key: value"),
        (
            "no-oslo-01",
            "x\n  labels: {a: " + "b" * 257 + "}",
            "f.yaml:5:15",
            "257 characters long",
            "shorten it to 256",
        ),
        (
            "no-oslo-01",
            "x\n  labels: {" + "b" * 257 + ": a}",
            "f.yaml:5:12",
            "has a key that is 257",
            "shorten it to 256",
        ),
        ("kind: Site", "kind: Sitee", "f.yaml:2:7", '"Sitee" is not a kind', "did you mean Site?"),
        ("kind: Site", "kind: sites", "f.yaml:2:7", '"sites" is not a kind', "did you mean Site?"),
        ("kind: Site", "kind: Banana", "f.yaml:2:7", '"Banana" is not a kind', "the kinds are Cluster"),
        ("kind: Site\n", "", "f.yaml:1:1", "kind is missing", "add kind"),
        ("kind: Site", "kind:", "f.yaml:2:6", "kind is empty", "the kinds are"),
        ("gridctl/v1", "gridctl/v2", "f.yaml:1:13", "this gridctl reads gridctl/v1", "write gridctl/v1"),
        ("metadata:\n  name: no-oslo-01\n", "", "f.yaml:1:1", "metadata is missing", "add metadata: with name"),
    ],
)
def test_a_wrong_site_is_repaired_by_its_message(site, problem, old, new, where, words, fix):
    assert old in site
    found = problem(site.replace(old, new, 1))
    assert found[0] == where
    assert words in found[1]
    assert fix in found[2]


def test_every_problem_of_a_resource_comes_at_once(problems):
    text = """\
kind: Workload
metadata: {name: voice}
spec:
  objectives:
    - {metric: tfft_ms, threshold_ms: 500 ms, percentile: 100}
    - metric: e2e_ms
  models: llama-3.1-8b
  priority: 10
  jurisdiction: {rule: listed, allow: [eu]}
  traffic: {share: -1}
  tenants:
    - Bank
"""
    assert [(one.where, one.fix) for one in problems(text)] == [
        ("f.yaml:5:16", "did you mean ttft_ms?"),
        ("f.yaml:5:39", "write 500; the unit is in the field's name"),
        ("f.yaml:5:59", "see gridctl explain workload.objectives.percentile"),
        ("f.yaml:6:7", "add threshold_ms: (number, more than 0, up to 3600000)"),
        ("f.yaml:7:11", "write [llama-3.1-8b]"),
        ("f.yaml:8:13", "see gridctl explain workload.priority"),
        ("f.yaml:9:40", "write EU"),
        ("f.yaml:10:20", "see gridctl explain workload.traffic.share"),
        ("f.yaml:12:7", "write bank"),
    ]


def test_a_boolean_of_yaml_1_1_is_spelled_out(problem):
    where, what, fix = problem("kind: Policy\nmetadata: {name: p}\nspec:\n  allow_reject: yes\n")
    assert (where, fix) == ("f.yaml:4:17", "write true")
    assert 'allow_reject is "yes", not true or false' in what


def test_an_empty_list_that_needs_entries_is_refused(problem):
    where, what, _ = problem("kind: Workload\nmetadata: {name: w}\nspec:\n  objectives: []\n  models: [m]\n")
    assert where == "f.yaml:4:15"
    assert "needs at least 1" in what


@pytest.mark.parametrize(
    ("text", "field", "number"),
    [
        ("500 ms", "threshold_ms", 500),
        ("0.5s", "threshold_ms", 500),
        ("2 min", "keep_warm_s", 120),
        ("$0.02", "egress_usd_per_gb", 0.02),
        ("$2.50/h", "usd_per_gpu_hour", 2.5),
        ("1,000", "gpus", 1000),
        ("1_000", "gpus", 1000),
        ("99.9%", "attainment", 0.999),
        ("99%", "percentile", 99),
        ("600 W", "watts", 600),
        ("4.8 TB/s", "bandwidth_gbs", 4800),
        ("48.85 N", "lat", 48.85),
        ("74 W", "lon", -74),
        ("8k", "max_input_tokens", 8000),
        ("fast", "rtt_ms", None),
        ("5 apples", "rtt_ms", None),
        ("", "rtt_ms", None),
        ("1" * 1000 + " ms", "rtt_ms", None),
    ],
)
def test_a_quantity_with_a_unit_is_understood_for_the_suggestion(text, field, number):
    assert meant_number(text, field) == number


def _numbers(struct: type[msgspec.Struct], seen: set[type]) -> list[tuple[str, inspect.Type]]:
    found: list[tuple[str, inspect.Type]] = []
    if struct in seen:
        return found
    seen.add(struct)
    for name, field in fields_of(struct).items():
        type_ = field.type
        while (inner := item_type(type_)) is not None:
            type_ = bare_type(inner)[0]
        if isinstance(type_, inspect.DictType):
            type_ = bare_type(type_.value_type)[0]
        if isinstance(type_, inspect.StructType):
            found += _numbers(type_.cls, seen)
        elif isinstance(type_, inspect.FloatType | inspect.IntType):
            found.append((f"{struct.__name__}.{name}", type_))
    return found


def test_every_number_of_every_kind_is_bounded_on_both_sides_so_that_nan_and_infinity_are_refused():
    seen: set[type] = set()
    numbers = [one for kind in KINDS.values() for one in _numbers(kind, seen)]
    assert len(numbers) > 60
    unbounded = [
        name
        for name, type_ in numbers
        if (type_.ge is None and type_.gt is None) or (type_.le is None and type_.lt is None)
    ]
    assert unbounded == []


def test_an_unprintable_value_is_shown_escaped(site, problem):
    _, what, _ = problem(site.replace("tier: edge", 'tier: "\\e[31m' + "x" * 100 + '"'))
    assert "\x1b" not in what
    assert len(what) < 200
