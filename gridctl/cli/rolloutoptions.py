"""Options of `gridctl model push … --to`: to which sites, in which waves, and when it is to stop."""

# No postponed annotations here: typer reads them.

from typing import Annotated

import typer

ToOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE,…", help="Roll it out to these sites of the grid, as tier=edge,country=FR."),
]
WavesOption = Annotated[
    str | None,
    typer.Option(metavar="STEPS", help="Sites that have it after each wave: 1,5%,25%,100% unless given."),
]
SoakOption = Annotated[str, typer.Option(metavar="TIME", help="How long a wave serves it before the next begins.")]
WindowOption = Annotated[
    list[str] | None,
    typer.Option("--window", metavar="HOURS", help="When to transfer and reload: 'Mon-Fri 22:00-06:00 Europe/Paris'."),
]
UnavailableOption = Annotated[
    str, typer.Option(metavar="SHARE", help="Sites of a wave, and of a jurisdiction, that may reload at a time.")
]
SamplesOption = Annotated[
    int, typer.Option("--min-samples", min=1, help="Requests a wave must have served to be judged; fewer pause.")
]
TtftRatioOption = Annotated[
    float,
    typer.Option(
        "--max-ttft-ratio",
        metavar="TIMES",
        help="A wave fails when its TTFT is surely longer than so many times control's.",
    ),
]
SignatureOption = Annotated[
    bool,
    typer.Option("--require-signature", help="Sites take it only signed with the key that their agents trust."),
]
RollbackOption = Annotated[
    bool,
    typer.Option("--auto-rollback/--no-auto-rollback", help="Go back by itself when a wave fails; pause otherwise."),
]
RegionBandwidthOption = Annotated[
    str | None,
    typer.Option("--region-bandwidth", metavar="AMOUNT", help="Bytes per second of a jurisdiction's sites together."),
]
ModelOption = Annotated[str | None, typer.Option(help="The grid's model; as the repository is called otherwise.")]
VariantOption = Annotated[str | None, typer.Option(help="The variant of it; as the package says otherwise.")]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the rollout.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait until the rollout is over or paused; 99 unless it completed.")
]
