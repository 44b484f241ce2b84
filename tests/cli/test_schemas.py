"""JSON is API: what commands print is what their committed schemas say, key by key, in both directions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gridctl.accounts.tables import SlaRow, TokenomicsRow
from gridctl.render.requests import FIELDS
from gridctl.render.schemas import SCHEMAS, result_kinds, schema_of
from gridctl.resources import KINDS

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def complaints(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str = "$") -> list[str]:
    """What is wrong with `value` by the words our schemas use; a key that no schema names is wrong too."""
    if "$ref" in schema:
        return complaints(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, at)
    if "anyOf" in schema:
        each = [complaints(value, one, root, at) for one in schema["anyOf"]]
        return min(each, key=len)
    if "const" in schema and value != schema["const"]:
        return [f"{at} is {value!r}, not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at} is {value!r}, not one of {schema['enum']}"]
    word = schema.get("type")
    if word and (not isinstance(value, TYPES[word]) or (isinstance(value, bool) and word != "boolean")):
        return [f"{at} is {value!r}, not of type {word}"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{at} is {value!r}, which does not match {schema['pattern']}"]
    found: list[str] = []
    if isinstance(value, list):
        first, others = schema.get("prefixItems", []), schema.get("items", {})
        for index, item in enumerate(value):
            if index >= len(first) and others is False:
                return [*found, f"{at} has {len(value)} items, not {len(first)}"]
            found += complaints(item, first[index] if index < len(first) else others, root, f"{at}[{index}]")
    if isinstance(value, dict):
        properties, others = schema.get("properties"), schema.get("additionalProperties", False)
        found += [f"{at}.{key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            if properties is not None and key in properties:
                found += complaints(item, properties[key], root, f"{at}.{key}")
            elif isinstance(others, dict):
                found += complaints(item, others, root, f"{at}.{key}")
            elif properties is not None:
                found.append(f"{at}.{key} is printed and not documented")
    return found


def hold(text: str, kind: str) -> Any:
    """The printed object, once its schema has no complaint."""
    printed = json.loads(text)
    schema = schema_of(kind)
    assert complaints(printed, schema, schema) == []
    return printed


def test_the_checker_sees_what_is_missing_unknown_or_of_another_type() -> None:
    schema = schema_of("EventList")
    event = {"version": "1", "time": "yesterday", "actor": "ada", "action": "made", "kind": "Site", "name": "a"}
    printed = {"apiVersion": "gridctl/v1", "kind": "Events", "items": [{**event, "colour": 1, "changes": [{}]}]}
    found = complaints(printed, schema, schema)
    assert len(found) == 9
    assert "$.items[0].colour is printed and not documented" in found
    assert "$.items[0].version is '1', not of type integer" in found
    assert "$.items[0].changes[0].before is missing" in found


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_lists_of_resources_keep_their_schema(grid: Callable, kind: type) -> None:
    printed = hold(grid(kind.noun, "list", "-o", "json").out, f"{kind.__name__}List")
    for resource in printed["items"]:
        one = hold(grid(kind.noun, "get", resource["metadata"]["name"], "-o", "json").out, kind.__name__)
        assert one == resource


def test_changes_differences_and_events_keep_their_schema(grid: Callable, manifest: Path) -> None:
    text = manifest.read_text(encoding="utf-8").replace("city: Oslo", "city: Moss").replace("fr-paris-01", "fr-lyon-01")
    differences = hold(grid("diff", "-f", "-", "-o", "json", stdin=text).out, "DifferenceList")
    assert {row["action"] for row in differences["items"]} == {"create", "update"}
    planned = hold(grid("apply", "-f", "-", "--dry-run", "-o", "json", stdin=text).out, "ChangeList")
    done = hold(grid("apply", "-f", "-", "-o", "json", stdin=text).out, "ChangeList")
    assert [row["action"] for row in planned["items"]][:2] == ["would update", "would create"]
    assert [row["action"] for row in done["items"]][:2] == ["updated", "created"]
    hold(grid("site", "delete", "fr-lyon-01", "-o", "json").out, "ChangeList")
    events = hold(grid("event", "list", "-o", "json").out, "EventList")
    assert {event["action"] for event in events["items"]} == {"created", "updated", "deleted"}


def test_a_decision_with_nothing_sent_keeps_its_schema(grid: Callable) -> None:
    asked = ("route", "test", "--origin", "fr-paris-01", "--workload", "chat", "-o", "json")
    found = hold(grid(*asked).out, "RouteTest")
    assert found["decision"]["outcome"] == "routed"
    nobody = hold(grid(*asked, "--prompt-tokens", "1000000").out, "RouteTest")
    assert nobody["decision"]["reason"] == "too-long"


@pytest.fixture
def replayed(grid: Callable) -> Callable:
    """A grid that holds a run of three requests, its centralised alternative beside it."""
    lines = [
        {"timestamp": at, "input_length": 64, "output_length": tokens, "origin": "fr-paris-01", "workload": "chat"}
        for at, tokens in ((0, 1), (20, 8), (40, 1_000_000))
    ]
    (grid.folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    ran = grid("replay", "run", "t.jsonl", "--name", "base", "-o", "json")
    assert ran.code == 0, ran.err
    hold(ran.out, "Run")
    return grid


def test_results_keep_their_schema(replayed: Callable) -> None:
    hold(replayed("run", "list", "-o", "json").out, "RunList")
    hold(replayed("run", "get", "base", "-o", "json").out, "Run")
    tokenomics = hold(replayed("tokenomics", "base", "-o", "json").out, "Tokenomics")
    assert tokenomics["centralized"]["run"] == "base.centralized"
    assert hold(replayed("sla", "base", "-o", "json").out, "Sla")["worst_sites"]
    requests = hold(replayed("replay", "requests", "base", "-o", "json").out, "RequestList")
    assert [request["input_tokens"] for request in requests["items"]] == [64, 64, 64]
    lines = replayed("replay", "requests", "base", "-o", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == requests["items"]


def test_an_explained_request_keeps_its_schema(replayed: Callable) -> None:
    """Served, refused, and with the engines of a site beside; every fate and state is among those promised."""
    for request in ("0", "1", "worst"):
        told = hold(
            replayed("explain", "request", f"base/{request}", "--site", "no-oslo-01", "-o", "json").out, "Explanation"
        )
        assert told["run"] == "base"
    assert told["timeline"]["outcome"] == "failed"
    assert told["decision"]["chosen"] is None
    assert {one["reason"] for one in told["decision"]["candidates"]} == {"too-long"}
    kept = hold(replayed("run", "get", "base", "--inputs", "-o", "json").out, "RunInputs")
    assert (kept["requests"], kept["resources"], kept["shaped"]) == (3, 5, {})


def test_game_days_keep_their_schema(replayed: Callable) -> None:
    faults = "[{at: 0s, for: 1s, lose: {site: no-oslo-01}}]"
    day = f"kind: GameDay\nmetadata: {{name: day}}\nspec: {{noticed_after: 0s, faults: {faults}}}\n"
    (replayed.folder / "day.yaml").write_text(day)
    found = hold(replayed("gameday", "run", "day.yaml", "t.jsonl", "-o", "json").out, "GameDayReport")
    assert [phase["phase"] for phase in found["faults"][0]["phases"]] == ["before", "during", "after"]
    assert hold(replayed("gameday", "n-1", "t.jsonl", "-o", "json").out, "LossList")["items"]


def test_a_validation_keeps_its_schema(shell: Callable) -> None:
    """Three requests, an hour apart: the twin serves each alone."""
    rows = [
        f"{number},100,8,{3600 * number},{3600 * number},{3600 * number + 0.05},{3600 * number + 1}"
        for number in range(3)
    ]
    header = "request,input_tokens,output_tokens,queued_s,scheduled_s,first_token_s,last_token_s"
    (shell.folder / "run.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    words = ("--profile", "rtx-pro-6000.llama-3.1-8b.bf16.tp1", "--measured", "run.csv", "-o", "json")
    printed = hold(shell("profile", "validate", *words, XDG_CACHE_HOME=KERNELS).out, "ProfileValidation")
    assert [item["metric"] for item in printed["items"]] == ["TTFT", "TPOT", "E2E"]
    assert [item["requests"] for item in printed["items"]] == [3, 3, 3]


def test_gates_and_comparisons_keep_their_schema(replayed: Callable) -> None:
    gates = ("--gate", "good >= 1", "--gate", "requests <= baseline", "--baseline", "base")
    again = replayed("replay", "run", "t.jsonl", "--name", "again", *gates, "-o", "json")
    assert again.code == 0, again.err
    assert hold(again.out, "Run")["gates"]["passed"] == 2
    broken = replayed("replay", "gate", "base", *gates, "--gate", "ttft_ms.p99 < 1s where workload=chat", "-o", "json")
    assert [item["outcome"] for item in hold(broken.out, "GateReport")["items"]] == ["pass", "pass", "error"]
    hold(replayed("replay", "gate", "--gate", "good >= 1", "--dry-run", "-o", "json").out, "GateCheckList")
    compared = replayed("replay", "compare", "base", "again", "base.centralized", "--by", "workload", "-o", "json")
    assert len(hold(compared.out, "RunComparison")["runs"]) == 2


def test_the_contract_s_own_keys_are_promised() -> None:
    """The keys the first version was ordered with; they stay whatever is added."""
    run = [
        "name",
        "requests",
        "completed",
        "rejected",
        "failed",
        "wall_s",
        "requests_per_s",
        "digest",
        "policy",
        "seed",
    ]
    assert set(run) <= set(schema_of("Run")["required"])
    request = [
        "id",
        "t_ms",
        "origin",
        "workload",
        "tenant",
        "site",
        "cluster",
        "variant",
        "outcome",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "rtt_ms",
        "queue_ms",
        "ttft_ms",
        "tpot_ms",
        "e2e_ms",
        "usd",
    ]
    item = schema_of("RequestList")["properties"]["items"]["items"]
    assert request == item["required"][: len(request)]
    assert list(FIELDS) == item["required"]


def test_every_column_of_the_tables_is_promised_and_described() -> None:
    for name, row in (("Tokenomics", TokenomicsRow), ("Sla", SlaRow)):
        definition = schema_of(name)["$defs"][row.__name__]
        assert definition["required"] == list(row.__struct_fields__)
        assert all(column.get("description") for column in definition["properties"].values())


def test_explain_prints_schemas_of_resources_lists_and_results(shell: Callable) -> None:
    assert json.loads(shell("explain", "site", "--schema").out)["title"] == "Site"
    assert json.loads(shell("explain", "SiteList", "--schema").out)["properties"]["kind"] == {"const": "SiteList"}
    for name in result_kinds():
        printed = shell("explain", name, "--schema").out
        assert json.loads(printed) == json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def test_an_unknown_schema_is_not_found_and_none_is_a_usage_error(shell: Callable) -> None:
    unknown = shell("explain", "Tokenomic", "--schema")
    assert (unknown.code, unknown.out) == (4, "")
    assert "did you mean Tokenomics?" in unknown.err
    assert shell("explain", "--schema").code == 2
