"""`gridctl network`: what the round-trip model says, and how wrong it is on measured pairs.

Works without a grid for cities and coordinates; with one, sites and links are known too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note

if TYPE_CHECKING:
    from gridctl.network.overrides import Overrides
    from gridctl.resources import Site

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Estimate round-trip times and check the estimates.")


def _complete_sites(incomplete: str) -> list[str]:
    try:
        sites, _ = _grid()
        return [name for name in sites if name.startswith(incomplete)]
    except Exception:
        return []


_PLACE_HELP = "A site, a city (paris or paris,fr) or LAT,LON."


@app.command(context_settings={"ignore_unknown_options": True})
def rtt(
    source: Annotated[str, typer.Argument(metavar="FROM", help=_PLACE_HELP, autocompletion=_complete_sites)],
    target: Annotated[str, typer.Argument(metavar="TO", help=_PLACE_HELP, autocompletion=_complete_sites)],
    coverage: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share of pairs the interval holds.")] = 0.9,
    output: OutputOption = "table",
) -> None:
    """Estimate the round-trip time between two places, with the interval measured pairs fall in.

    Coordinates south of the equator start with a minus sign and are read as they are.

    Example:
      gridctl network rtt paris "new york"
      gridctl network rtt fr-paris-01 -33.87,151.21 -o json
    """
    from gridctl.geography.place import distance_km, resolve_place
    from gridctl.network.jitter import jitter_quantile_ppm
    from gridctl.network.model import pair_class, rtt_interval_ms
    from gridctl.render.rows import Column

    sites, overrides = _grid()
    a, b = resolve_place(source, sites), resolve_place(target, sites)
    link = overrides.between(a.name, b.name) if a.tier and b.tier else None
    estimate = overrides.rtt_ms(a, b)
    low, high = (estimate, estimate) if link else rtt_interval_ms(a, b, coverage)
    item: dict[str, object] = {
        "from": a.name,
        "to": b.name,
        "rtt_ms": estimate,
        "low_ms": round(low, 3),
        "high_ms": round(high, 3),
        "coverage": coverage,
        "distance_km": round(distance_km(a, b), 3),
        "class": pair_class(a, b),
        "link": link.name if link else None,
        "jitter_p95_ms": round(estimate * jitter_quantile_ppm(0.95) / 1e6, 3),
    }
    columns = [
        Column("from", "From"),
        Column("to", "To"),
        Column("rtt_ms", "RTT ms", align="right", text=_one),
        Column("low_ms", "Low ms", align="right", text=_one),
        Column("high_ms", "High ms", align="right", text=_one),
        Column("coverage", "Coverage", align="right", wide=True),
        Column("distance_km", "Distance km", align="right", text=_whole),
        Column("class", "Class"),
        Column("link", "Link"),
        Column("jitter_p95_ms", "Jitter p95 ms", align="right", wide=True),
    ]
    emit([item], columns, output, kind="RttEstimate", name_key="from", single=True)
    if link is None:
        note(f"low to high holds {coverage:.0%} of measured pairs of this class; a link with a measurement replaces it")


@app.command()
def validate(
    measured: Annotated[Path, typer.Option(metavar="FILE", help="Pairs: CSV with src,dst,rtt_avg_ms; plain or gzip.")],
    cities: Annotated[Path, typer.Option(metavar="FILE", help="Cities: CSV with city,lat,lon,country; plain or gzip.")],
    exclude_suspect: Annotated[
        bool,
        typer.Option(
            "--exclude-suspect/--include-suspect", help="Leave out cities whose coord_suspect is 1 (the default)."
        ),
    ] = True,
    output: OutputOption = "table",
) -> None:
    """Compare the model with measured pairs: mean and median absolute error, p90 and bias, by class of pair.

    Example:
      gridctl network validate --measured pings.csv --cities cities.csv
      gridctl network validate --measured pings.csv.gz --cities cities.csv.gz --include-suspect -o json
    """
    from dataclasses import asdict

    from gridctl.network.measured import read_cities, read_pairs
    from gridctl.network.validation import validate as compare
    from gridctl.render.rows import Column

    found = compare(read_pairs(measured), read_cities(cities), exclude_suspect=exclude_suspect)
    items = [{("class" if key == "pair_class" else key): value for key, value in asdict(r).items()} for r in found.rows]
    columns = [
        Column("class", "Class"),
        Column("pairs", "Pairs", align="right"),
        Column("mae_ms", "MAE ms", align="right", text=_one),
        Column("median_ms", "Median AE ms", align="right", text=_one),
        Column("p90_ms", "p90 AE ms", align="right", text=_one),
        Column("bias_ms", "Bias ms", align="right", text=_one),
        Column("mean_rtt_ms", "Mean RTT ms", align="right", text=_one, wide=True),
    ]
    emit(items, columns, output, kind="RttErrorList", name_key="class")
    if found.skipped_suspect:
        note(f"skipped {found.skipped_suspect} pairs of cities with suspect coordinates")
    if found.skipped_unknown:
        note(f"skipped {found.skipped_unknown} pairs of cities without coordinates")


def _grid() -> tuple[dict[str, Site], Overrides]:
    """The current grid's sites and links; nothing when no grid is chosen."""
    from gridctl.errors import NotFoundError
    from gridctl.network.overrides import Overrides
    from gridctl.orchestrator.context import current_grid
    from gridctl.resources import Link, Site

    try:
        home = current_grid()
    except NotFoundError:
        return {}, Overrides()
    with home.open_registry() as registry:
        sites = {s.resource.name: s.resource for s in registry.list(Site) if isinstance(s.resource, Site)}
        links = [s.resource for s in registry.list(Link) if isinstance(s.resource, Link)]
    return sites, Overrides(links)


def _one(value: float) -> str:
    return f"{value:.1f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"
