"""`gridctl route test` as a user runs it, over a grid that nobody serves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

ASKED = ("route", "test", "--origin", "fr-paris-01", "--workload", "chat")


def test_the_nearest_of_two_equal_engines_is_no_matter_of_order(grid: Callable) -> None:
    ran = grid(*ASKED, "-o", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["kind"], found["source"], found["name"]) == ("RouteTest", "registry", "chat from fr-paris-01")
    decision = found["decision"]
    assert (decision["outcome"], decision["origin"], decision["tenant"]) == ("routed", "fr-paris-01", "default")
    assert sorted(one["status"] for one in decision["candidates"]) == ["chosen", "runner-up"]
    assert {one["site"] for one in decision["candidates"]} == {"no-oslo-01"}
    rtt = json.loads(grid("network", "rtt", "fr-paris-01", "no-oslo-01", "-o", "json").out)["rtt_ms"]
    assert decision["candidates"][0]["rtt_ms"] == pytest.approx(rtt + 10.0, abs=0.002), "and ten for the last mile"


def test_every_format_says_the_same(grid: Callable) -> None:
    table = grid(*ASKED).out
    assert "chosen: no-oslo-01 oslo-gpu (tiny/bf16): the cheapest" in table.replace("\n  ", " ")
    assert "every engine idle" in table.replace("\n  ", " ")
    rows = list(csv.DictReader(io.StringIO(grid(*ASKED, "-o", "csv").out)))
    assert [row["status"] for row in rows] == ["chosen", "runner-up"]
    assert grid(*ASKED, "-o", "name").out == "chat from fr-paris-01\n"
    assert len(grid(*ASKED, "-o", "jsonl").out.splitlines()) == 1
    assert (
        grid(*ASKED, "-o", "markdown").code == grid(*ASKED, "-o", "wide").code == grid(*ASKED, "-o", "yaml").code == 0
    )


def test_lengths_policy_and_model_may_be_given(grid: Callable) -> None:
    asked = (*ASKED, "--model", "tiny/bf16", "--prompt-tokens", "4000", "--output-tokens", "9", "--policy", "nearest")
    decision = json.loads(grid(*asked, "-o", "json").out)["decision"]
    assert (decision["prompt_tokens"], decision["expected_output_tokens"]) == (4000, 9)
    chosen = next(one for one in decision["candidates"] if one["status"] == "chosen")
    assert chosen["because"] == "what nearest takes"
    short = json.loads(grid(*ASKED, "--prompt-tokens", "40", "-o", "json").out)["decision"]["candidates"][0]
    assert chosen["forecast"]["prefill_ms"] > 2 * short["forecast"]["prefill_ms"]


def test_nobody_is_an_answer(grid: Callable) -> None:
    ran = grid(*ASKED, "--prompt-tokens", "1000000")
    assert ran.code == 0
    assert "chosen: nobody: too-long" in ran.out


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("--origin", "zzyzzx"), 4, "zzyzzx"),
        (("--origin", "99,0"), 3, "off the globe"),
        (("--workload", "chatt"), 4, "did you mean chat?"),
        (("--model", "gpt-9"), 3, "does not exist"),
        (("--tenant", "rival"), 3, "may not use"),
        (("--policy", "zigzag"), 4, "zigzag"),
        (("--prices", "gold"), 4, "gold"),
        (("--prompt-tokens", "0"), 2, "prompt-tokens"),
        (("--prompt-tokens", "many"), 2, "prompt-tokens"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_what_means_nothing_is_refused(grid: Callable, change: tuple[str, ...], code: int, says: str) -> None:
    ran = grid(*ASKED, *change)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
