"""The `--label key=value` option of register verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from gridctl.errors import UsageError

LabelsOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label for selectors; may be given again.")
]


def parse_labels(texts: Sequence[str] | None) -> dict[str, str]:
    """Labels as a map. Raises: UsageError for a text without `=` or a key given twice."""
    labels: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"not a label: {text!r}", where="--label", fix="write --label key=value")
        if key in labels:
            raise UsageError(f"label {key} is given twice", where="--label", fix="keep one of them")
        labels[key] = value
    return labels
