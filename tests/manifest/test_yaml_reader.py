"""YAML: the subset manifests use, its refusals with line and column, and bombs."""

import time

import pytest

from gridctl.errors import InputError
from gridctl.manifest import parse_manifest
from gridctl.manifest.scalars import plain_value


def test_norway_is_a_country(site):
    (declared,) = parse_manifest(site.encode(), name="f.yaml")
    assert declared.resource.spec.country == "NO"


def test_labels_named_like_yaml_1_1_booleans_and_dates_stay_text(site):
    labels = "  labels: {a: yes, b: off, c: 2026-11-23, d: 12:30, e: 0644, f: 1_000, 7: n}\n"
    (declared,) = parse_manifest(site.replace("spec:\n", labels + "spec:\n").encode(), name="f.yaml")
    assert declared.resource.metadata.labels == {
        "a": "yes", "b": "off", "c": "2026-11-23", "d": "12:30", "e": "0644", "f": "1_000", "7": "n"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", "True"),
        ("no", "no"),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("+3", 3),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("017", "017"),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        (".", "."),
        ("1٣", "1٣"),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text, value):
    result = plain_value(text)
    assert (result, type(result)) == (value, type(value))


def test_documents_lists_and_envelopes_say_where_each_resource_begins(site):
    other = site.replace("oslo-01", "oslo-02")
    indented = "".join(f"  {line}\n" for line in other.splitlines())
    listed = "- " + indented.lstrip()
    cases = {
        f"---\n{site}---\n# second\n{other}": ["f.yaml:2", "f.yaml:13"],
        f"# a list\n{listed}": ["f.yaml:2"],
        f"apiVersion: gridctl/v1\nkind: SiteList\nitems:\n{listed}": ["f.yaml:4"],
        f"---\n---\n{site}...\n---\n": ["f.yaml:3"],
    }
    for text, places in cases.items():
        assert [one.where for one in parse_manifest(text.encode(), name="f.yaml")] == places


def test_windows_line_ends_and_a_byte_order_mark_are_harmless(site, problem):
    text = "\ufeff" + site.replace("\n", "\r\n")
    assert len(parse_manifest(text.encode(), name="f.yaml")) == 1
    assert problem(text.replace("59.91", "99"))[0] == "f.yaml:6:8"


@pytest.mark.parametrize(
    ("text", "where", "words", "fix"),
    [
        ("a: &x 1\nb: *x\n", "f.yaml:1:4", "anchors and aliases", "write the value out"),
        ("a: *x\n", "f.yaml:1:4", "anchors and aliases", "write the value out"),
        ("a: &x\n  b: 1\n", "f.yaml:1:4", "anchors and aliases", "write the value out"),
        ("a:\n  <<: {b: 1}\n", "f.yaml:2:3", "merge keys", "write the fields out"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1:4", "tags", "remove the tag"),
        ("a: !!str 5\n", "f.yaml:1:4", "tags", "remove the tag"),
        ("%YAML 1.1\n---\na: 1\n", "f.yaml:1:1", "directives", "remove the line"),
        ("? [a, b]\n: 1\n", "f.yaml:1:3", "a key must be text", "plain word"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1", "'a' is given twice", "remove one"),
        ('a: "\\0"\n', "f.yaml:1:4", "NUL", "remove"),
        ("a:\n\tb: 1\n", "f.yaml:2:1", "a tab indents", "spaces"),
        ("a:\n  b: 1\n \tc: 2\n", "f.yaml:3:2", "a tab indents", "spaces"),
        ("a: b: c\n", "f.yaml:1:5", "mapping values are not allowed", "quotes"),
        ("a: @b\n", "f.yaml:1:4", "cannot start any token", "indentation"),
        ("@a: b\n", "f.yaml:1:1", "cannot start any token", "quotes"),
        ('a: "b\n', "f.yaml:2:1", "unexpected end of stream", "cut short"),
        ("a: [1, 2\n", "f.yaml:2:1", "did not find expected ',' or ']'", "indentation, quotes and brackets"),
        ("a: \x07\n", "f.yaml:1:4", "U+0007", "escape"),
    ],
)
def test_what_manifests_do_not_use_is_refused_where_it_stands(problems, text, where, words, fix):
    first = problems(text)[0]
    assert first.where == where
    assert words in first.what
    assert fix in first.fix


def test_a_forgotten_document_line_is_recognised(site, problems):
    first = problems(site + site.replace("01", "02"))[0]
    assert (first.where, first.what) == ("f.yaml:10:1", "the key 'apiVersion' is given twice")
    assert "---" in first.fix


BOMBS = {
    "flow lists": "[" * 5000,
    "flow mappings": "{a: " * 5000,
    "block lists": "- " * 5000,
    "indented mappings": "".join(f"{' ' * depth}a:\n" for depth in range(500)),
    "explicit keys": "? " * 5000,
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{n}: &{n} [{','.join(['*' + m] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges": "a: &a {k: 1}\n"
    + "".join(f"{n}: &{n} {{<<: [{','.join(['*' + m] * 9)}]}}\n" for m, n in zip("abcd", "bcde", strict=True)),
    "tag directives": "".join(f"%TAG !{n}! x\n" for n in range(20_000)) + "---\na: 1\n",
    "a long number": "a: " + "9" * 2_000_000,
    "a long word": "kind: " + "S" * 2_000_000,
    "a long key": "S" * 900 + ": 1\n" + "T" * 900 + ": 2\n",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_with_its_line_and_at_once(bomb, problems):
    started = time.process_time()
    first = problems(bomb)[0]
    assert time.process_time() - started < 0.5
    assert first.where.startswith("f.yaml:")


def test_a_small_bomb_inside_a_sound_resource_is_found_at_its_depth(site, problem):
    where, what, _ = problem(site + "  city: " + "[" * 70 + "]" * 70 + "\n")
    # the document and spec are two levels, so the 63rd bracket is the 65th: columns 9 + 62
    assert (where, what) == ("f.yaml:10:71", "nested deeper than 64 levels")


def test_a_file_that_is_wrong_all_over_stops_being_read(problems):
    found = problems("- {}\n" * 5000)
    assert len(found) == 1001
    assert "more than 1,000 problems" in found[-1].what


def test_too_many_events_are_refused(problem, monkeypatch, site):
    monkeypatch.setattr("gridctl.manifest.yaml_reader.MAX_EVENTS", 20)
    assert "more than 20 YAML events" in problem(site)[1]


def test_the_pure_python_parser_gives_the_same_answers(site, problem, monkeypatch):
    """PyYAML may be built without libyaml."""
    import yaml

    monkeypatch.setattr(yaml, "CSafeLoader", yaml.SafeLoader)
    assert parse_manifest(site.encode(), name="f.yaml")[0].where == "f.yaml:1"
    assert problem(site.replace("59.91", "99"))[0] == "f.yaml:6:8"
    assert problem("[" * 5000)[0] == "f.yaml:1:65"
    assert problem("a: \x07")[0] == "f.yaml:1:4"


def test_a_yaml_file_holding_json_says_where_too(site_json, problem):
    assert problem(site_json.replace("59.91", "99"))[0] == "f.yaml:2:18"


def test_all_documents_are_checked_in_one_pass(site, problems):
    text = site.replace("59.91", "95") + "---\n" + site.replace("01", "02").replace("tier: edge", "tier: egde")
    assert [one.where for one in problems(text)] == ["f.yaml:6:8", "f.yaml:19:9"]


def test_errors_are_input_errors_only(problems):
    assert {type(one) for one in problems("- 1\n- 2\n")} == {InputError}
