"""`gridctl cache forecast`: what a cache would save on a trace, by size, time to live and error rate."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.errors import UsageError
from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.traces.trace import Trace

MOST_RUNS, MOST_SEEDS = 200, 100


def _percent(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _fine(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _bytes(value: Any) -> str:
    return f"{value / 2**30:.3g} GiB" if value >= 2**28 else f"{value / 2**20:.3g} MiB"


def _usd(value: Any) -> str:
    return "-" if value is None else f"{value:,.4f}"


COLUMNS = (
    Column("workload", "workload"),
    Column("size_bytes", "size", align="right", text=_bytes),
    Column("ttl_s", "time to live s", align="right", text=lambda value: f"{value:g}"),
    Column("error_rate", "may err", align="right", text=lambda value: f"{100 * value:g} %"),
    Column("hit_share", "hits", align="right", text=_percent),
    Column("hit_share_low", "hits at least", align="right", text=_percent),
    Column("hit_share_high", "hits at most", align="right", text=_percent),
    Column("exact_hits", "exact", align="right"),
    Column("shared_hits", "shared", align="right"),
    Column("semantic_hits", "by meaning", align="right"),
    Column("wrong_per_request", "wrong, of requests", align="right", text=_fine),
    Column("wrong_per_hit", "wrong, of hits", align="right", text=_fine),
    Column("saved_usd", "saved $", align="right", text=_usd),
    Column("requests", "requests", align="right"),
    Column("wrong_per_request_low", "wrong at least", align="right", text=_fine, wide=True),
    Column("wrong_per_request_high", "wrong at most", align="right", text=_fine, wide=True),
    Column("stale_hits", "stale", align="right", wide=True),
    Column("audits", "audits", align="right", wide=True),
    Column("saved_input_tokens", "input tokens saved", align="right", wide=True),
    Column("saved_output_tokens", "output tokens saved", align="right", wide=True),
    Column("evidence", "told by", wide=True),
    Column("population", "drawn from", wide=True),
    Column("seeds", "rehearsals", align="right", wide=True),
)


def forecast(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="A trace with texts, answer keys or prefix blocks.")],
    size: Annotated[str, typer.Option(metavar="LIST", help="Capacities: 512MiB,10GiB.")] = "1GiB",
    ttl: Annotated[str, typer.Option(metavar="LIST", help="Times to live: 60,15m,1h,7d.")] = "1h",
    error_rate: Annotated[
        str, typer.Option(metavar="LIST", help="Wrong answers over requests that are allowed.")
    ] = "0.01,0.02,0.05",
    mode: Annotated[Literal["exact", "semantic"], typer.Option(help="Which repeats count.")] = "semantic",
    evidence: Annotated[
        Literal["auto", "text", "keys"], typer.Option(help="Go by the texts, or by answer keys and lengths alone.")
    ] = "auto",
    embedder: Annotated[
        str, typer.Option(metavar="NAME", help="hashed, a folder or a package: what makes vectors of texts.")
    ] = "hashed",
    like: Annotated[
        Literal["auto", "questions", "assistant", "commands"],
        typer.Option(help="Without texts: which measured prompts these are like."),
    ] = "auto",
    measure: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLE", help="Without texts: a trace of like requests that has texts and keys, measured first."
        ),
    ] = None,
    stale: Annotated[str, typer.Option(metavar="TIME", help="Served so long after its time, once, and renewed.")] = "0",
    admission: Annotated[
        Literal["first", "second"],
        typer.Option(help="Keep an exact answer at once, or when the very same is asked again."),
    ] = "first",
    price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Dollars per million input and output tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same forecast.")] = 1,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MOST_SEEDS,
            help="The mean of N rehearsals, and its interval; unless given 5, of texts and long traces fewer.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N requests.")] = None,
    output: OutputOption = "table",
) -> None:
    """Rehearse a cache on a trace: hits, wrong answers and dollars saved by size, time to live and error rate.

    The code that decides is the one that decides live. With `prompt` texts and an `answer_key` in each row both are
    used; with keys alone verbatim repeats are estimated from lengths, and likenesses are drawn from measured prompts.
    Those that come with gridctl know two subjects; --measure takes a sample of your own. "hits at least" and "at most"
    say how far off the share of hits may be by what it was drawn from, and by the draws (--seeds). Wrong answers are
    given over requests, which is what the error rate promises, and over hits.

    Example:
      gridctl cache forecast trace.jsonl.gz
      gridctl cache forecast trace.jsonl.gz --size 64MiB,1GiB --ttl 60,1h --error-rate 0.01,0.05 --price 0.15,0.6
      gridctl cache forecast trace.jsonl.gz --evidence keys --seeds 5 -o json
      gridctl cache forecast month.jsonl.gz --evidence keys --measure day-with-texts.jsonl.gz
    """
    from gridctl.cli.amounts import span_of
    from gridctl.orchestrator.forecasting import ForecastOrder, forecast_rows, sampled, usual_seeds

    order = ForecastOrder(
        sizes_bytes=tuple(_size(one) for one in _listed(size, "--size")),
        ttls_s=tuple(span_of(one, "--ttl") for one in _listed(ttl, "--ttl")),
        error_rates=tuple(_rate(one) for one in _listed(error_rate, "--error-rate")),
        evidence=evidence,
        embedder=embedder,
        like=None if like == "auto" else like,
        mode=mode,
        usd_per_mtok=_prices(price),
        stale_s=span_of(stale, "--stale"),
        admission=admission,
        seed=seed,
        seeds=seeds or 1,
    )
    if order.runs > MOST_RUNS:
        raise UsageError(f"{order.runs} rehearsals: at most {MOST_RUNS}", fix="list fewer values, or fewer --seeds")
    if admission == "second" and mode != "exact":
        raise UsageError("answers told by meaning are kept at once", where="--admission", fix="add --mode exact")
    if measure is not None and like != "auto":
        raise UsageError("--measure and --like name two populations", where="--like", fix="leave one of them out")
    requests, drawn = _read(trace, limit), None
    if seeds is None:
        order = replace(order, seeds=usual_seeds(requests, order, MOST_RUNS))
    if measure is not None:
        sample = _read(measure, None)
        with progress("measuring", len(sample) * len(order.error_rates)) as advance:
            drawn = sampled(requests, sample, order, advance)
    with progress("rehearsing", len(requests) * order.runs) as advance:
        rows = forecast_rows(requests, order, note, advance, drawn)
    emit(rows, COLUMNS, output, kind="CacheForecastList", name_key="workload")


def _read(path: str, limit: int | None) -> Trace:
    from gridctl.traces.reader import read_trace

    with progress("reading"):
        return read_trace(path, limit=limit)


def _listed(text: str, option: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"{option} lists nothing", where=option, fix=f"give values with commas between: {option} A,B")
    return found


def _size(text: str) -> int:
    """Bytes of `512MiB`, `1.5GiB` or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?", text)
    value = round(float(match[1]) * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(match[2] or "B")) if match else 0
    if not 1 <= value < 1 << 50:
        raise UsageError(f"{text!r} is no capacity", where="--size", fix="--size 512MiB,10GiB")
    return value


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"an error rate of {text!r} cannot be kept", where="--error-rate", fix="--error-rate 0.01,0.05"
        )
    return value


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} are no two prices", where="--price", fix="--price 0.15,0.6")
    return float(match[1]), float(match[2])
