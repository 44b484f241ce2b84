"""Options and small parts that `gridctl model package | push | pull` share: what they take, and their rows."""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.amounts import bytes_of
from gridctl.cli.output import emit
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gridctl.artifacts.pace import Pace
    from gridctl.artifacts.registry_client import RegistryClient


def _complete_reference(incomplete: str) -> list[str]:
    """Hosts that docker knows, then models of the grid; nothing is asked over the network."""
    from gridctl.artifacts.credentials import known_hosts
    from gridctl.cli.options import names_of

    host, slash, name = incomplete.rpartition("/")
    if not slash:
        return [f"{known}/" for known in known_hosts() if known.startswith(incomplete)]
    return [f"{host}/{model}:" for model in names_of("model", name)]


ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="REF", help="HOST/NAME:TAG, or HOST/NAME@sha256:….", autocompletion=_complete_reference),
]
BaseOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The package or pulled folder that sites hold now; only differences travel."),
]
BandwidthOption = Annotated[
    str | None, typer.Option(metavar="AMOUNT", help="Bytes per second at most, such as 10MB; of each site with --to.")
]
ParallelOption = Annotated[int, typer.Option(min=1, max=32, help="Transfers at a time.")]
LinkOption = Annotated[float, typer.Option(min=0.001, help="Speed of a site's link in Mbit/s, for the plan.")]


def client_of(reference: str, parallel: int) -> "RegistryClient":
    """A client of the registry that a reference names. Raises UsageError for what is no reference."""
    from gridctl.artifacts.reference import parse_reference
    from gridctl.artifacts.registry_client import RegistryClient

    return RegistryClient(parse_reference(reference), parallel=parallel)


def one_by_one(advance: "Callable[[int], None]") -> "Callable[[int], None]":
    """A progress bar that several threads may advance."""
    import threading

    lock = threading.Lock()

    def advanced(count: int) -> None:
        with lock:
            advance(count)

    return advanced


def pace_of(bandwidth: str | None) -> "Pace":
    """The speed that --bandwidth asks for. Raises UsageError."""
    from gridctl.artifacts.pace import Pace

    rate = bytes_of(bandwidth.removesuffix("/s"), "--bandwidth") if bandwidth is not None else None
    if rate == 0:
        raise UsageError("nothing moves at 0 bytes per second", where="--bandwidth", fix="write 10MB")
    return Pace(rate)


def print_row(row: dict[str, Any], output: str, kind: str) -> None:
    """What was done, as one row of its own columns."""
    from gridctl.render.rows import Column

    columns = [
        Column(key, key.replace("_", " "), align="right" if isinstance(value, int) else "left", text=_shown(value))
        for key, value in row.items()
    ]
    emit([row], columns, output, kind=kind, name_key="digest", single=True)


def _shown(value: object) -> Any:
    return counted if isinstance(value, int) else None


def counted(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"
