"""Gates in one line, in files: beside whole manifests, with names or without, and their mistakes at their lines."""

from __future__ import annotations

import pytest

from gridctl.errors import InputError
from gridctl.manifest import parse_manifest

WHOLE = "- apiVersion: gridctl/v1\n  kind: Gate\n  metadata: {name: whole}\n  spec: {metric: usd, op: <, value: 5}\n"


@pytest.mark.parametrize(("suffix", "text"), [
    ("yaml", f"- usd < $5\n- cheap: usd <= baseline * 1.05\n{WHOLE}"),
    ("json", '["usd < $5",\n {"cheap": "usd <= baseline * 1.05"},\n {"kind": "Gate", "metadata": {"name": "whole"},'
             ' "spec": {"metric": "usd", "op": "<", "value": 5}}]'),
])  # fmt: skip
def test_a_list_may_hold_gates_in_one_line(suffix: str, text: str) -> None:
    found = parse_manifest(text.encode(), name=f"g.{suffix}")
    assert [one.resource.name for one in found] == ["usd-lt-5", "cheap", "whole"]
    assert [one.at(("spec", "metric")).split(":")[1] for one in found][:2] == ["1", "2"]
    assert found[1].resource.spec.baseline == "times"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("# gates\n- usd < 5\n- attainmant > 0.9\n", "g.yaml:3:3", "no metric 'attainmant'"),
        ("- usd < 5\n- Not A Name: usd < 6\n", "g.yaml:2:", "no name for a gate"),
        ("- usd < 5\n- usd <   $5\n", "g.yaml:2", "declared twice"),
        ("- hello\n", "g.yaml:1", "a resource is a mapping"),
        ("usd < 5\n", "g.yaml:1", "a resource is a mapping"),
        ("- kind: usd < 5\n", "g.yaml:1", "is not a kind"),
    ],
)
def test_a_mistake_is_said_at_its_line(text: str, where: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_manifest(text.encode(), name="g.yaml")
    assert words in caught.value.what
    assert (caught.value.where or "").startswith(where)
