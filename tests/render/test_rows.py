"""Rows in every format, against hand-written expectations."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import UsageError
from gridctl.render import rows as rows_module
from gridctl.render.rows import FORMATS, Column, render_rows

COLUMNS = (
    Column("name", "name"),
    Column("ttft_ms", "TTFT ms", align="right", text=lambda value: f"{value:.1f}"),
    Column("note", "note", wide=True),
)
ITEMS = [{"name": "a", "ttft_ms": 12.25, "note": None}, {"name": "bb", "ttft_ms": None, "note": "x|y"}]


def test_table_aligns_hides_wide_columns_and_shows_absence() -> None:
    assert render_rows(ITEMS, COLUMNS, "table", kind="TList") == "NAME  TTFT MS\na        12.2\nbb          -\n"


def test_wide_shows_every_column() -> None:
    assert render_rows(ITEMS, COLUMNS, "wide", kind="TList").splitlines()[0] == "NAME  TTFT MS  NOTE"


def test_json_is_an_envelope_of_exact_values() -> None:
    document = json.loads(render_rows(ITEMS, COLUMNS, "json", kind="TList"))
    assert list(document) == ["apiVersion", "kind", "items"]
    assert document == {"apiVersion": "gridctl/v1", "kind": "TList", "items": ITEMS}


def test_a_single_object_has_no_items() -> None:
    document = json.loads(render_rows(ITEMS[:1], COLUMNS, "json", kind="T", single=True))
    assert document == {"apiVersion": "gridctl/v1", "kind": "T", "name": "a", "ttft_ms": 12.25, "note": None}


def test_jsonl_is_an_item_a_line() -> None:
    lines = render_rows(ITEMS, COLUMNS, "jsonl", kind="TList").splitlines()
    assert [json.loads(line) for line in lines] == ITEMS


def test_yaml_reads_back_as_the_json_object() -> None:
    text = render_rows(ITEMS, COLUMNS, "yaml", kind="TList")
    assert yaml.safe_load(text) == json.loads(render_rows(ITEMS, COLUMNS, "json", kind="TList"))


def test_csv_has_keys_exact_numbers_and_every_column() -> None:
    assert render_rows(ITEMS, COLUMNS, "csv", kind="TList") == "name,ttft_ms,note\na,12.25,\nbb,,x|y\n"


def test_markdown_cells_cannot_end_early() -> None:
    text = render_rows([{"name": "a|b<i>"}], COLUMNS[:1], "markdown", kind="TList")
    assert text.splitlines()[2] == "| a\\|b&lt;i> |"


def test_name_prints_names_only() -> None:
    assert render_rows(ITEMS, COLUMNS, "name", kind="TList") == "a\nbb\n"


def test_no_rows_are_a_header_or_an_empty_list() -> None:
    assert render_rows([], COLUMNS, "table", kind="TList") == "NAME  TTFT MS\n"
    assert render_rows([], COLUMNS, "csv", kind="TList") == "name,ttft_ms,note\n"
    assert json.loads(render_rows([], COLUMNS, "json", kind="TList"))["items"] == []
    assert render_rows([], COLUMNS, "name", kind="TList") == ""
    assert render_rows([], COLUMNS, "markdown", kind="TList").startswith("| name")


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        render_rows(ITEMS, COLUMNS, "jsn", kind="TList")
    assert caught.value.fix == "did you mean -o json?"


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_not_a_number_is_never_printed_as_one(format_: str) -> None:
    items = [{"name": "a", "x": float("nan"), "y": float("inf")}]
    text = render_rows(items, (Column("name", "name"), Column("x", "x"), Column("y", "y")), format_, kind="TList")
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_numpy_values_print_as_plain_ones() -> None:
    numpy = pytest.importorskip("numpy")
    items = [{"name": "a", "n": numpy.int64(3), "x": numpy.float64("nan"), "v": numpy.array([1, 2])}]
    document = json.loads(render_rows(items, COLUMNS, "json", kind="TList"))
    assert document["items"] == [{"name": "a", "n": 3, "x": None, "v": [1, 2]}]


def test_a_single_thing_in_a_table_is_a_fact_a_line() -> None:
    assert render_rows(ITEMS[:1], COLUMNS, "table", kind="T", single=True) == "name     a\nTTFT ms  12.2\n"


def test_the_envelopes_version_is_that_of_manifests() -> None:
    from gridctl.resources import API_VERSION

    assert rows_module.API_VERSION == API_VERSION


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.lists(st.tuples(TEXT, st.floats(allow_nan=False, allow_infinity=False)), max_size=8))
def test_json_and_csv_read_back_exactly(pairs: list[tuple[str, float]]) -> None:
    items = [{"name": name, "x": value} for name, value in pairs]
    columns = (Column("name", "name"), Column("x", "x"))
    assert msgspec.json.decode(render_rows(items, columns, "json", kind="TList"))["items"] == items
    read = list(csv.DictReader(io.StringIO(render_rows(items, columns, "csv", kind="TList"))))
    assert [float(row["x"]) for row in read] == [value for _, value in pairs]


@given(st.lists(st.fixed_dictionaries({"name": TEXT, "v": st.one_of(st.none(), TEXT, st.integers(), st.booleans())})))
def test_tables_keep_a_line_per_item_and_print_no_control_characters(items: list[dict[str, object]]) -> None:
    columns = (Column("name", "name"), Column("v", "v", align="right"))
    for format_ in ("table", "csv", "name"):
        text = render_rows(items, columns, format_, kind="TList")
        assert text.count("\n") == len(items) + (format_ != "name")
        assert all(character.isprintable() or character == "\n" for character in text)


def test_a_narrow_terminal_is_told_which_columns_it_lacks() -> None:
    columns = (Column("name", "name"), Column("a", "a", align="right"), Column("b", "b", align="right"))
    items = [{"name": "fr-paris-01", "a": "1234567", "b": "7654321"}]
    narrow = render_rows(items, columns, "table", kind="SiteList", width=21)
    assert narrow == "NAME               A\nfr-paris-01  1234567\ntoo narrow for: B;\nsee -o wide\n"
    assert "7654321" in render_rows(items, columns, "table", kind="SiteList", width=29)


def test_wide_shows_everything_whole_on_a_narrow_terminal() -> None:
    columns = (Column("name", "name"), Column("why", "why"), Column("more", "more", wide=True))
    items = [{"name": "a", "why": "y" * 60, "more": "z" * 60}]
    wide = render_rows(items, columns, "wide", kind="SiteList", width=40)
    assert "y" * 60 in wide
    assert "z" * 60 in wide
