"""The example grids that ship with gridctl: where they are, installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

from gridctl.errors import NotFoundError, did_you_mean

GENERATED = "world"
"""The example whose manifests are generated, at any size, rather than copied."""


def example_names() -> list[str]:
    """Names that `gridctl init --example` takes."""
    folder = _examples_folder()
    found = {place.name for place in folder.iterdir() if place.is_dir()} if folder is not None else set()
    return sorted({name for name in found if not name.startswith((".", "_"))} | {GENERATED})


def example_folder(name: str) -> Path:
    """The folder of an example. Raises: NotFoundError with the names there are."""
    folder = _examples_folder()
    if folder is not None and name in example_names() and (folder / name).is_dir():
        return folder / name
    known = example_names()
    near = did_you_mean(name, known)
    raise NotFoundError(
        f"there is no example {name!r}",
        where="--example",
        fix=f"did you mean {near}?" if near else f"one of: {', '.join(known)}",
    )


def _examples_folder() -> Path | None:
    """`gridctl/examples` when installed from a wheel, `examples/` beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "examples", package.parent / "examples"):
        if folder.is_dir():
            return folder
    return None
