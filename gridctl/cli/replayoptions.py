"""Options of the commands that replay a trace: one wording of each, for `replay run`, game days, sweeps and plans."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

TraceArgument = Annotated[
    str, typer.Argument(metavar="TRACE", help="A trace in any format gridctl reads; - for stdin.")
]
RunNameOption = Annotated[str | None, typer.Option(metavar="RUN", help="The run's name; run-1, run-2, … otherwise.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Overwrite a run of that name.")]
CheckOption = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, replay nothing.")]

AccountedOption = Annotated[str, typer.Option(metavar="NAME", help="The price book to account with.")]
RunSeedOption = Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same run, byte for byte.")]

UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Drop what comes at this time or later.")]
FirstRequestsOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N requests.")]
BlockTokensOption = Annotated[
    int | None, typer.Option(metavar="N", help="Tokens per prefix block, where the file does not say.")
]

DrawOption = Annotated[
    str, typer.Option(metavar="LIST", help="What differs between them: jitter, mix, arrivals, profile.")
]
ReplaysOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Replays at a time; all processors otherwise.")
]
MakerOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Who makes them: this machine, or the cluster at RAY_ADDRESS.")
]

EVERY_SOURCE = "jitter,mix,arrivals,profile"
"""What --draw is unless given."""
