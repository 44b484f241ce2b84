"""Rewriting a body: what changes is what should, by the standard library's parser, and every other byte stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.broker.splice import rewrite

USAGE = {"include_usage": True}


@pytest.mark.parametrize(
    ("body", "model", "usage", "expected"),
    [
        (b'{"model":"a","x":1.50}', "b", False, b'{"model":"b","x":1.50}'),
        (b'{"model":"a","x":1.50}', None, False, b'{"model":"a","x":1.50}'),
        (b'\n{ "model" : "a" }\n', "o/b c", False, b'\n{ "model" : "o/b c" }\n'),
        (b'{"model":"a"}', None, True, b'{"stream_options":{"include_usage":true},"model":"a"}'),
        (
            b'{"stream_options":{},"model":"a"}',
            "b",
            True,
            b'{"stream_options":{"include_usage":true},"model":"b"}',
        ),
        (b'{"model":"a","stream_options":null}', None, True, b'{"model":"a","stream_options":{"include_usage":true}}'),
        (
            b'{"model":"a","stream_options":{"include_usage": false}}',
            None,
            True,
            b'{"model":"a","stream_options":{"include_usage": true}}',
        ),
        (
            b'{"model":"a","stream_options":{"x":[1]}}',
            None,
            True,
            b'{"model":"a","stream_options":{"include_usage":true,"x":[1]}}',
        ),
        (b'{"tools":[{"model":"a"}],"model":"a"}', "b", False, b'{"tools":[{"model":"a"}],"model":"b"}'),
        (b'{"y":"\\"model\\":\\"a\\"","model":"a"}', "b", False, b'{"y":"\\"model\\":\\"a\\"","model":"b"}'),
        (b'{"x":"model","model":"a"}', "b", False, b'{"x":"model","model":"b"}'),
        (b'{"m\\u006fdel":"a","x":{"model":"c"}}', "b", False, b'{"m\\u006fdel":"b","x":{"model":"c"}}'),
    ],
)
def test_only_what_should_change_changes(body: bytes, model: str | None, usage: bool, expected: bytes) -> None:
    assert rewrite(body, "a", model, reports_usage=usage) == expected


def test_of_a_key_that_comes_twice_the_one_that_engines_read_is_changed() -> None:
    body = b'{"model":"x","model":"a"}'
    assert json.loads(rewrite(body, "a", "b", reports_usage=False))["model"] == "b"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["model", '"model":', "\\", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "x", "é"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(
    others=st.dictionaries(st.sampled_from(["a", "messages", "modelx", "zz", "é"]), _VALUES),
    options=st.none() | st.just({}) | st.fixed_dictionaries({"include_usage": st.booleans(), "k": _VALUES}),
    has_options=st.booleans(),
    name=st.text(min_size=1, max_size=8),
    new=st.none() | st.text(min_size=1, max_size=8),
    usage=st.booleans(),
    indent=st.sampled_from([None, 1]),
    is_ascii=st.booleans(),
)
def test_an_independent_parser_sees_the_same_but_for_what_was_changed(
    others: dict[str, object],
    options: object,
    has_options: bool,
    name: str,
    new: str | None,
    usage: bool,
    indent: int | None,
    is_ascii: bool,
) -> None:
    document = {**others, "model": name, **({"stream_options": options} if has_options else {})}
    body = json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    expected = dict(document)
    if new is not None:
        expected["model"] = new
    if usage:
        given_options = options if has_options and isinstance(options, dict) else {}
        expected["stream_options"] = {**given_options, **USAGE}
    assert json.loads(rewrite(body, name, new, reports_usage=usage)) == expected
