"""Gate expression: a gate in one line of text, and what no run could decide about one.

    METRIC OP VALUE [where KEY=VALUE, …] [in all draws | in 90% of draws] [allow undecided]

    ttft_ms.p95 < 200ms where workload=voice-agent, region=EU
    usd_per_mtok <= baseline * 1.05
    attainment >= baseline - 0.5% in all draws

Decides the language and nothing about runs. A number carries a unit (`200ms`, `1.5s`, `95%`, `$0.80`) or is in the
metric's own. Invariant: `parse_gate(gate_text(spec)) == spec`. A gate that always or never holds is refused, because a
threshold of 99 on a share of 1 is a slip of the pen, not a promise.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal, DecimalException
from typing import Any

import msgspec

from gridctl.errors import InputError, did_you_mean
from gridctl.resources.gate import METRICS, OPS, SCOPES, GateSpec, scope_of, unit_of

LONGEST = 1_000
"""Characters an expression may have."""
_HINT = "METRIC OP VALUE [where KEY=VALUE, …], for example: ttft_ms.p95 < 200ms where workload=voice-agent"
_START = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|≤|≥|==|!=|<|>|=)\s*(.*)", re.DOTALL)
_UNDECIDED = re.compile(r"\s+allow[ _-]undecided\s*$")
_DRAWS = re.compile(r"\s+in\s+(all|[\d.]{1,20}\s*%\s+of)(?:\s+the)?\s+draws\s*$")
_WHERE = re.compile(r"\s+where(?:\s+|$)")
_PAIR = re.compile(r"""\s*([A-Za-z_]+)\s*==?\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,"']+)\s*""")
_BARE = re.compile(r"[^\s,\"'\\=][^\s,\"'\\]*")
_NUMBER = re.compile(
    r"(\$?)\s*([+-]?(?:\d[\d_]{0,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?)\s*([A-Za-zµ%/]*)"
)
_COLUMN = re.compile(r"(ttft|tpot|e2e|queue|network)_(p\d+(?:\.\d+)?)_ms")
_ALIASES = {"≤": "<=", "≥": ">="}
_UNITS: dict[str, dict[str, str]] = {
    "ms": {"": "1", "ms": "1", "us": "0.001", "µs": "0.001", "s": "1000", "min": "60000"},
    "share": {"": "1", "%": "0.01"},
    "usd": {"": "1", "usd": "1", "$": "1"},
    "rate": {"": "1", "k": "1000", "M": "1000000"},
    "count": {"": "1", "k": "1000", "M": "1000000"},
    "number": {"": "1"},
}


def parse_gate(text: str) -> GateSpec:
    """The gate that a line of text asks for.

    >>> spec = parse_gate("ttft_ms.p95 < 0.2s where workload=voice-agent")
    >>> spec.metric, spec.op, spec.value, spec.workload
    ('ttft_ms.p95', '<', 200.0, 'voice-agent')

    Raises: InputError with what is wrong and the nearest right word; where it stands is the caller's to say.
    """
    if len(text) > LONGEST:
        raise InputError(f"a gate of {len(text):,} characters", fix=f"shorten it to {LONGEST}")
    start = _START.fullmatch(text)
    if start is None:
        raise InputError(f"{_quoted(text)} is no gate", fix=_HINT)
    fields: dict[str, Any] = {"metric": _metric(start[1]), "op": _op(start[2])}
    rest = start[3]
    if found := _UNDECIDED.search(rest):
        fields["allow_undecided"], rest = True, rest[: found.start()]
    if found := _DRAWS.search(rest):
        fields["draws"], rest = _draw_share(found[1]), rest[: found.start()]
    value, *where = _WHERE.split(rest, maxsplit=1)
    if "draws" not in fields and (found := _DRAWS.search(value)):
        fields["draws"], value = _draw_share(found[1]), value[: found.start()]
    fields |= _threshold(value.strip(), fields["metric"])
    if where:
        fields |= _scope(where[0])
    try:
        spec = msgspec.convert(fields, GateSpec, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{_quoted(text)}: {error}", fix=_HINT) from None
    for what, fix in problems(spec):
        raise InputError(what, fix=fix)
    return spec


def gate_text(spec: GateSpec) -> str:
    """The gate as one line that reads back as the same gate.

    >>> gate_text(parse_gate("attainment>=0.99 where workload=voice,tenant='a b' in 90 % of draws"))
    'attainment >= 99% where workload=voice, tenant="a b" in 90% of draws'
    """
    text = f"{spec.metric} {spec.op} {threshold_text(spec)}"
    scope = scope_of(spec)
    if scope:
        text += " where " + ", ".join(f"{key}={_scope_value(value)}" for key, value in scope.items())
    if spec.draws is not None:
        text += " in all draws" if spec.draws == 1 else f" in {_percent(spec.draws)} of draws"
    return text + (" allow undecided" if spec.allow_undecided else "")


def threshold_text(spec: GateSpec) -> str:
    """What the metric is held against: `200 ms`, `baseline * 1.05`, `baseline - 0.5%`."""
    if spec.baseline == "times":
        return "baseline" if spec.value == 1 else f"baseline * {_plain(spec.value)}"
    if spec.baseline == "plus":
        return f"baseline {'-' if spec.value < 0 else '+'} {_amount(abs(spec.value), spec.metric)}"
    return _amount(spec.value, spec.metric)


def gate_name(text: str) -> str:
    """A resource name for a gate that was given none: the expression in the letters a name may have.

    >>> gate_name("ttft_ms.p95 < 200 where workload=voice")
    'ttft-ms.p95-lt-200-where-workload-voice'
    """
    words = text.lower()
    for op, word in (("<=", " le "), (">=", " ge "), ("<", " lt "), (">", " gt "), ("%", "pct"), ("*", " times ")):
        words = words.replace(op, word)
    slug = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")
    if len(slug) > 63 or not slug:
        slug = f"{slug[:52].strip('-.') or 'gate'}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
    return slug


def problems(spec: GateSpec) -> Iterator[tuple[str, str]]:
    """What makes a gate meaningless whatever the run, and the edit that repairs it."""
    text = f"{spec.metric} {spec.op} {threshold_text(spec)}"
    if spec.baseline == "times" and spec.value <= 0:
        yield f"{text}: the factor must be above 0", "write a factor such as 1.05"
    if spec.baseline is not None:
        return
    low = float("-inf") if spec.metric == "budget_left_share" else 0.0
    high = 1.0 if unit_of(spec.metric) == "share" else float("inf")
    if spec.metric == "gpu_utilization":
        high = float("inf")
    if spec.op in ("<", "<="):
        never = spec.value < low or (spec.value == low and spec.op == "<")
        always = spec.value > high or (spec.value == high and spec.op == "<=")
    else:
        never = spec.value > high or (spec.value == high and spec.op == ">")
        always = spec.value < low or (spec.value == low and spec.op == ">=")
    if never or always:
        is_percent = high == 1.0 and 1 < spec.value <= 100
        fix = f"did you mean {_plain(spec.value)}%?" if is_percent else "choose a threshold that a run can miss"
        shown = f"{spec.metric} {spec.op} {_plain(spec.value)}" if high == 1.0 else text
        because = ", because it is a share of 1" if high == 1.0 else ""
        yield f"{shown} {'always' if always else 'never'} holds{because}", fix


def _metric(word: str) -> str:
    if word in METRICS:
        return word
    column = _COLUMN.fullmatch(word)
    near = f"{column[1]}_ms.{column[2]}" if column else did_you_mean(word[:64], METRICS)
    if near not in METRICS:
        near = next((known for known in METRICS if known == f"{word}.p95"), None)
    fix = f"did you mean {near}?" if near else "gridctl explain gate.metric lists all"
    raise InputError(f"there is no metric {_quoted(word)}", fix=fix)


def _op(word: str) -> str:
    op = _ALIASES.get(word, word)
    if op not in OPS:
        raise InputError(f"a gate compares with {', '.join(OPS)}, not with {word}", fix="a count is 0 when it is <= 0")
    return op


def _draw_share(words: str) -> float:
    if words == "all":
        return 1.0
    try:
        share = Decimal(words.split("%")[0].strip()) / 100
    except DecimalException:
        share = Decimal(0)
    if not 0 < share <= 1:
        raise InputError(f"a gate cannot hold in {words} draws", fix="write `in all draws` or `in 90% of draws`")
    return float(share)


def _threshold(text: str, metric: str) -> dict[str, object]:
    """`value`, and `baseline` where the threshold moves with one."""
    words = text.split("baseline")
    if len(words) == 1:
        return {"value": _value(text, metric)}
    before, after = words[0].strip(), words[1].strip()
    if len(words) == 2 and not before and not after:
        return {"value": 1.0, "baseline": "times"}
    sign = after[:1]
    if len(words) == 2 and not before and sign and sign in "*x×":
        return {"value": _value(after[1:].strip(), "burn"), "baseline": "times"}
    if len(words) == 2 and not after and before[-1:] in ("*", "x", "×"):
        return {"value": _value(before[:-1].strip(), "burn"), "baseline": "times"}
    if len(words) == 2 and not before and sign and sign in "+-":
        if "%" in after and unit_of(metric) != "share":
            number = _value(after[1:].rstrip("% "), "burn")
            factor = _plain(float(1 + Decimal(repr(number)) / 100 * (1 if sign == "+" else -1)))
            raise InputError(f"{sign}{_plain(number)}% of what? {metric} is no share", fix=f"baseline * {factor}")
        amount = _value(after[1:].strip(), metric)
        return {"value": amount if sign == "+" else -amount, "baseline": "plus"}
    raise InputError(f"{_quoted(text)} is no threshold", fix="baseline, baseline * 1.05 or baseline + 10ms")


def _value(text: str, metric: str) -> float:
    """A number with a unit, in the metric's own unit."""
    found = _NUMBER.fullmatch(text)
    kind = unit_of(metric)
    if found is None:
        what = f"{_quoted(text)} is no number" if text else "the threshold is missing"
        raise InputError(what, fix=f"{_HINT}")
    unit = found[3] or found[1]
    known = dict(_UNITS[kind])
    if kind == "rate":
        known |= {"tok/s": "1"} if "tok" in metric else {"rps": "1", "req/s": "1"}
    if unit not in known or (found[1] and kind != "usd"):
        units = ", ".join(name for name in known if name)
        what = (
            f"{_quoted(unit)} is no unit of {metric}"
            if metric != "burn"
            else f"{_quoted(unit)}: a bare number goes here"
        )
        raise InputError(what, fix=f"one of: {units}" if units else "leave the unit out")
    try:
        value = Decimal(found[2].replace("_", "")) * Decimal(known[unit])
    except DecimalException:
        raise InputError(f"{_quoted(text)} is no number", fix=_HINT) from None
    if abs(value) > Decimal(10) ** 15:
        raise InputError(f"{_quoted(text)} is beyond any run", fix="choose a threshold that a run can miss")
    return float(value)


def _scope(text: str) -> dict[str, str]:
    scope: dict[str, str] = {}
    at = 0
    while at < len(text) or not scope:
        found = _PAIR.match(text, at)
        if found is None:
            raise InputError(f"{_quoted(text[at:])} is no KEY=VALUE", fix="where workload=voice-agent, region=EU")
        key, word = found[1], found[2]
        if key not in SCOPES:
            near = did_you_mean(key[:64], SCOPES)
            fix = f"did you mean {near}?" if near else f"one of: {', '.join(SCOPES)}"
            raise InputError(f"requests cannot be chosen by {_quoted(key)}", fix=fix)
        if key in scope:
            raise InputError(f"{key} is given twice", fix="a gate is about one; write another gate")
        scope[key] = _unquoted(word)
        at = found.end()
        if at < len(text):
            joint = re.compile(r",|and\s").match(text, at)
            if joint is None:
                raise InputError(f"{_quoted(text[at:])} after {key}={_quoted(word)}", fix="put a comma between pairs")
            at = joint.end()
            if at >= len(text):
                raise InputError("a pair is missing at the end", fix="remove the comma, or add KEY=VALUE")
    return scope


def _unquoted(word: str) -> str:
    if word.startswith('"'):
        try:
            return str(json.loads(word, strict=False))
        except ValueError:
            raise InputError(f"{_quoted(word)} is no quoted text", fix='escape " and \\ with \\') from None
    return word[1:-1] if word.startswith("'") else word


def _scope_value(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _amount(value: float, metric: str) -> str:
    unit = unit_of(metric)
    if unit == "share":
        return _percent(value)
    text = _plain(value)
    return f"{text} ms" if unit == "ms" else f"${text}" if unit == "usd" and value >= 0 else text


def _percent(value: float) -> str:
    return f"{_digits(Decimal(repr(value)) * 100)}%"


def _plain(value: float) -> str:
    """A number without an exponent where it is short: 200, 0.85."""
    return _digits(Decimal(repr(value)))


def _digits(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if len(text) <= 24 else f"{value:e}"


def _quoted(text: str) -> str:
    """Text from outside as a message quotes it: short and printable."""
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return "'" + "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + "'"
