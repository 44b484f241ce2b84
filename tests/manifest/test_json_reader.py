"""JSON and JSON Lines: positions, and what lenient parsers let through."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridctl.manifest import parse_manifest

JSON = "f.json"
REPOSITORY = Path(__file__).resolve().parents[2]


def test_values_lists_envelopes_and_several_values_are_read_with_their_lines(site_json):
    other = site_json.replace("oslo-01", "oslo-02")
    cases = {
        site_json: ["f.json:1"],
        f"[\n{site_json},\n{other}]": ["f.json:2", "f.json:4"],
        f'{{"apiVersion": "gridctl/v1", "note": {{"a": [1]}}, "kind": "SiteList",\n"items": [{site_json}, {other}]}}': [
            "f.json:2",
            "f.json:3",
        ],
        f"{site_json}\n{other}\n": ["f.json:1", "f.json:3"],
    }
    for text, places in cases.items():
        assert [one.where for one in parse_manifest(text.encode(), name=JSON)] == places


@pytest.mark.parametrize(
    ("old", "new", "where", "words", "fix"),
    [
        ('"lat": 59.91', '"lat": 1, "lat": 2', "f.json:2:21", "'lat' is given twice", "remove one"),
        ("59.91", "95", "f.json:2:18", "spec.lat is 95; it must be -90 to 90", "explain site.lat"),
        ("59.91", "NaN", "f.json:2:18", "spec.lat is NaN", "explain site.lat"),
        ("59.91", "-Infinity", "f.json:2:18", "spec.lat is -infinity", "explain site.lat"),
        ("59.91", "1e999", "f.json:2:18", "spec.lat is infinity", "explain site.lat"),
        ("59.91", "9" * 5000, "f.json:2:18", "spec.lat is infinity", "explain site.lat"),
        ("59.91,", "59.91", "f.json:2:24", "expecting ',' delimiter", "comma"),
        ('"edge"}', '"edge",}', "f.json:2:71", "expecting property name", "remove the comma"),
        ('"kind"', "'kind'", "f.json:1:2", "expecting property name", "double quotes"),
        ('{"kind"', '{ // hello\n"kind"', "f.json:1:3", "expecting property name", "no comments"),
        ('"NO"', '"N\\u0000"', "f.json:2:50", "NUL", "remove"),
        ('"NO"', '"\\ud83d"', "f.json:2:50", "surrogate", "whole character"),
        ('"NO"', '"\t"', "f.json:2:51", "invalid control character", "comma, quote or bracket"),
        ('"tier": "edge"}}', '"tier": "ed', "f.json:2:64", "ends before it is complete", "cut short"),
        ('"edge"}}', "", "f.json:2:64", "ends before it is complete", "cut short"),
        ('"edge"}}', '"edge"}} x', "f.json:2:73", "expecting value", "comma, quote or bracket"),
    ],
)
def test_json_is_refused_where_it_is_wrong(site_json, problem, old, new, where, words, fix):
    assert old in site_json
    found = problem(site_json.replace(old, new, 1), JSON)
    assert found[0] == where
    assert words in found[1]
    assert fix in found[2]


def test_a_valid_surrogate_pair_is_a_character(site_json):
    text = site_json.replace('"tier"', '"city": "\\ud83d\\ude80", "tier"')
    assert parse_manifest(text.encode(), name=JSON)[0].resource.spec.city == "🚀"


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, '{"a":[' * 50_000])
def test_a_nesting_bomb_is_refused_with_its_position_and_at_once(bomb, problem):
    started = time.process_time()
    where, what, _ = problem(bomb, JSON)
    assert time.process_time() - started < 0.5
    assert what == "nested deeper than 64 levels"
    assert where.startswith("f.json:1:")


@pytest.mark.parametrize("depth", [60, 300, 900])
def test_deep_values_that_the_scanner_survives_are_still_only_input_errors(site_json, problems, depth):
    deep = "[" * depth + '"\\u0000"' + "]" * depth
    assert problems(site_json.replace('"NO"', deep), JSON)
    assert problems(site_json.replace('"NO"', deep.replace("\\u0000", "")), JSON)


def test_positions_inside_lists_belong_to_the_right_entry(site_json, problems):
    text = f"[{site_json},\n{site_json.replace('01', '02').replace('59.91', '-91')},\n7]"
    assert [one.where for one in problems(text, JSON)] == ["f.json:4:18", "f.json:5:1"]


def test_a_bad_line_of_json_lines_does_not_hide_the_next(site_json, problems):
    line = site_json.replace("\n", "")
    text = "\n".join([line, line.replace("59.91", "95").replace("01", "02"), "", line[:-9], line + " {}", "[1"])
    # the value of lat stands at column 18 of the second line, behind the 52 characters of the first
    assert [one.where for one in problems(text, "f.jsonl")] == [
        "f.jsonl:2:70",
        "f.jsonl:4:115",
        "f.jsonl:5:125",
        "f.jsonl:6:3",
    ]


def test_a_ten_megabyte_line_is_refused(problem):
    where, what, _ = problem(b'{"kind": "' + b"a" * 10_000_000 + b'"}', "f.jsonl")
    assert where == "f.jsonl:1"
    assert "longer than 10,000,000 characters" in what


@pytest.mark.parametrize("long", ["a" * 4_000_000, "\\n" * 2_000_000], ids=["plain", "escapes"])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to bound the memory")
def test_the_place_of_a_mistake_costs_memory_in_proportion_to_the_file(long: str) -> None:
    """In a process that may not take more than 60 times the file beside the interpreter itself."""
    code = (
        "import resource, sys\n"
        "from gridctl.errors import InputError\n"
        "from gridctl.manifest import diagnosis, json_reader, parse_manifest\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + 240_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n"
        "    parse_manifest(sys.stdin.buffer.read(), name='long.json')\n"
        "except InputError as error:\n"
        "    print(error.where)\n"
    )
    text = f'{{"kind": "Site", "x": "{long}"}}'
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "long.json:1:18\n"
