"""`gridctl site`: the common verbs, and register, cordon, drain, uncordon."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.kind import kind_app
from gridctl.cli.labels import LabelsOption, parse_labels
from gridctl.cli.options import DryRunOption, complete_names
from gridctl.cli.output import OutputOption, emit, note, painted, width_of_terminal, write
from gridctl.cli.state import add_state_verbs
from gridctl.resources import Site

app = kind_app(Site)


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique, for example fr-paris-01.")],
    lat: Annotated[float, typer.Option(help="Degrees north, -90 to 90.")],
    lon: Annotated[float, typer.Option(help="Degrees east, -180 to 180.")],
    country: Annotated[str, typer.Option(metavar="CC", help="ISO 3166-1 alpha-2, for example FR.")],
    tier: Annotated[str, typer.Option(metavar="TIER", help="edge, metro, regional or core.")] = "edge",
    city: Annotated[str, typer.Option(help="Name of the city.")] = "",
    jurisdiction: Annotated[
        str | None, typer.Option(metavar="CODE", help="Jurisdiction, for example EU; from the country unless given.")
    ] = None,
    population: Annotated[int, typer.Option(help="People served; weighs generated traffic.")] = 0,
    cache_gib: Annotated[float, typer.Option(help="Cache capacity in GiB.")] = 0.0,
    label: LabelsOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Add one site to the grid.

    Example:
      gridctl site register fr-lyon-01 --lat 45.76 --lon 4.84 --country FR --tier edge --city Lyon
    """
    from gridctl.cli.register import register_one

    spec: dict[str, object] = {
        "lat": lat,
        "lon": lon,
        "country": country,
        "tier": tier,
        "city": city,
        "jurisdiction": jurisdiction,
        "population": population,
        "cache_gib": cache_gib,
    }
    register_one(Site, name, parse_labels(label), spec, output, dry_run=dry_run)


@app.command()
def inspect(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_names("site"))],
    output: OutputOption = "table",
) -> None:
    """One site on one screen: state and why, engines, probes, what is routed there and why, worst requests, changes.

    Asked of the orchestrator that serves the grid; without one, of what is declared. CSV and names are of its engines.

    Example:
      gridctl site inspect pt-lisbon-01
    """
    import msgspec

    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.health import site_of
    from gridctl.render.health import ENGINES, engine_items, site_text

    report = site_of(current_grid(), name)
    if output in ("table", "wide", "markdown"):
        write(site_text(report, output, painted, width_of_terminal()))
    elif output in ("json", "yaml"):
        emit([{}], (), output, kind="SiteInspection", single=True, documents=[msgspec.to_builtins(report)])
    else:
        emit(engine_items(report), ENGINES, output, kind="SiteInspection", documents=report.engines)
    if not report.is_live:
        note("no orchestrator runs, so this is what is declared; start one: gridctl up --detach")


add_state_verbs(app, Site)
