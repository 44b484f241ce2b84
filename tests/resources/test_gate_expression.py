"""Gates in one line: what is read, what is written back, and that nothing a person types is a crash."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import InputError
from gridctl.resources import GateSpec
from gridctl.resources.gate import METRICS, OPS, SCOPES, scope_of
from gridctl.resources.gate_expression import gate_name, gate_text, parse_gate, problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_ms.p95 < 200", {"metric": "ttft_ms.p95", "op": "<", "value": 200}),
        ("ttft_ms.p95<200ms", {"metric": "ttft_ms.p95", "op": "<", "value": 200}),
        ("ttft_ms.p95 ≤ 1.5 s", {"metric": "ttft_ms.p95", "op": "<=", "value": 1500}),
        ("queue_ms.mean < 800us", {"metric": "queue_ms.mean", "op": "<", "value": 0.8}),
        ("e2e_ms.p99.9 < 2min", {"metric": "e2e_ms.p99.9", "op": "<", "value": 120_000}),
        ("attainment >= 99.5%", {"metric": "attainment", "op": ">=", "value": 0.995}),
        ("attainment >= 0.995", {"metric": "attainment", "op": ">=", "value": 0.995}),
        ("usd_per_mtok <= $0.80", {"metric": "usd_per_mtok", "op": "<=", "value": 0.8}),
        ("goodput_tok_s > 1.5k", {"metric": "goodput_tok_s", "op": ">", "value": 1500}),
        ("requests >= 1_000_000", {"metric": "requests", "op": ">=", "value": 1e6}),
        ("usd <= baseline", {"metric": "usd", "op": "<=", "value": 1, "baseline": "times"}),
        ("usd <= baseline * 1.05", {"metric": "usd", "op": "<=", "value": 1.05, "baseline": "times"}),
        ("usd <= 1.05 × baseline", {"metric": "usd", "op": "<=", "value": 1.05, "baseline": "times"}),
        ("ttft_ms.p99 <= baseline + 10ms", {"metric": "ttft_ms.p99", "op": "<=", "value": 10, "baseline": "plus"}),
        ("attainment >= baseline - 0.5%", {"metric": "attainment", "op": ">=", "value": -0.005, "baseline": "plus"}),
        ("good > 5 in all draws", {"metric": "good", "op": ">", "value": 5, "draws": 1}),
        ("good > 5 in 90% of draws", {"metric": "good", "op": ">", "value": 5, "draws": 0.9}),
        ("good > 5 allow undecided", {"metric": "good", "op": ">", "value": 5, "allow_undecided": True}),
        (
            "good > 5 in 90% of draws where workload=voice, region = EU allow undecided",
            {
                "metric": "good", "op": ">", "value": 5, "draws": 0.9, "workload": "voice", "region": "EU",
                "allow_undecided": True,
            },
        ),
        ("good > 5 where tenant='a, b' and site=x",
         {"metric": "good", "op": ">", "value": 5, "tenant": "a, b", "site": "x"}),
    ],
)  # fmt: skip
def test_a_line_is_read_as_it_is_meant(text: str, expected: dict) -> None:
    assert parse_gate(text) == msgspec.convert(expected, GateSpec)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("ttft_p95_ms < 200", "no metric 'ttft_p95_ms'", "did you mean ttft_ms.p95?"),
        ("ttft_ms < 200", "no metric", "did you mean ttft_ms."),
        ("attainmnet > 0.9", "no metric", "did you mean attainment?"),
        ("attainment >= 99", "never holds, because it is a share of 1", "did you mean 99%?"),
        ("rejected_share < 5", "always holds", "did you mean 5%?"),
        ("ttft_ms.p95 < 0", "never holds", ""),
        ("failed >= 0", "always holds", ""),
        ("usd < 3ms", "'ms' is no unit of usd", "one of: usd, $"),
        ("ttft_ms.p95 < 3%", "'%' is no unit of ttft_ms.p95", "one of: ms, us, µs, s, min"),
        ("e2e_ms.p50 <= baseline + 5%", "no share", "baseline * 1.05"),
        ("e2e_ms.p50 <= baseline - 5%", "no share", "baseline * 0.95"),
        ("usd <= baseline * 0", "factor", "1.05"),
        ("usd <= baseline baseline", "no threshold", ""),
        ("requests = 3", "not with =", ""),
        ("usd <", "threshold is missing", ""),
        ("usd < nan", "no number", ""),
        ("usd < inf", "no number", ""),
        ("usd < 1e99", "beyond any run", ""),
        ("usd < 1 where", "no KEY=VALUE", ""),
        ("usd < 1 where workload=a,", "missing at the end", ""),
        ("usd < 1 where workload=a workload=b", "put a comma", ""),
        ("usd < 1 where workload=a, workload=b", "given twice", ""),
        ("usd < 1 where wrkload=a", "cannot be chosen by 'wrkload'", "did you mean workload?"),
        ("usd < 1 in 0% of draws", "cannot hold", ""),
        ("usd < 1 in 1..2% of draws", "", ""),
        ("hello", "no gate", "METRIC OP VALUE"),
        ("x" * 5000, "characters", "shorten"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(text: str, what: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_gate(text)
    assert what in caught.value.what or what in (caught.value.fix or "")
    assert fix in (caught.value.fix or "")


_WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@given(
    st.sampled_from(METRICS),
    st.sampled_from(OPS),
    st.floats(min_value=-1e6, max_value=1e6).map(lambda value: round(value, 4)),
    st.sampled_from((None, "times", "plus")),
    st.dictionaries(st.sampled_from(SCOPES), _WORDS, max_size=3),
    st.sampled_from((None, 1.0, 0.9, 0.995)),
    st.booleans(),
)
def test_what_is_written_reads_back_as_the_same_gate(metric, op, value, baseline, scope, draws, allow) -> None:
    spec = GateSpec(metric=metric, op=op, value=value, baseline=baseline, draws=draws, allow_undecided=allow, **scope)
    if not list(problems(spec)):
        assert parse_gate(gate_text(spec)) == spec
        assert scope_of(parse_gate(gate_text(spec))) == {key: scope[key] for key in SCOPES if key in scope}


_PIECES = st.sampled_from(
    [
        *(*METRICS[:3], "usd", "attainment", *OPS, "=", "==", "baseline", "where", "in all draws", "allow undecided"),
        *("*", "+", "workload=", "tenant='", '"', ",", " ", "1", "5%", "200ms", "$", "1e9", "nan", "\\", "\n", "\0"),
        *("×", "٣", "-"),
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(_PIECES, max_size=14).map(" ".join)))
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        spec = parse_gate(text)
    except InputError as error:
        refusal = error.what
    else:
        refusal = "none"
        assert parse_gate(gate_text(spec)) == spec
    assert refusal
    assert refusal.isprintable()


@given(st.text(max_size=200))
def test_every_gate_gets_a_name_that_a_resource_may_have(text: str) -> None:
    from gridctl.resources import Metadata

    assert msgspec.convert({"name": gate_name(text)}, Metadata)


def test_long_expressions_that_differ_at_the_end_have_different_names() -> None:
    start = "ttft_ms.p95 < 200 where workload=a-rather-long-name-of-a-workload, tenant=another"
    assert gate_name(f"{start}-one") != gate_name(f"{start}-two")
