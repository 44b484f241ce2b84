"""Text format: samples written as Prometheus text 0.0.4 or as OpenMetrics 1.0. Knows no metric.

The two differ in little: OpenMetrics names a counter's family without `_total`, and ends with `# EOF`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from gridctl.signals.metrics import Metric

Format = Literal["prometheus", "openmetrics"]
CONTENT_TYPES: dict[Format, str] = {
    "prometheus": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
Labels = Sequence[tuple[str, str]]

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def best_format(accept: str) -> Format:
    """The format that an Accept header asks for.

    >>> best_format("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5")
    'openmetrics'
    """
    return "openmetrics" if "application/openmetrics-text" in accept.lower() else "prometheus"


class Page:
    """One exposition, written family by family. Samples belong to the family begun last."""

    def __init__(self, style: Format = "prometheus") -> None:
        self._style = style
        self._lines: list[str] = []
        self._name = ""
        self._has_begun = False
        self._metric: Metric | None = None

    def family(self, metric: Metric) -> None:
        """Begin a family; it is left out if no sample follows."""
        self._metric, self._has_begun = metric, False
        self._name = metric.name

    def sample(self, value: float, labels: Labels = ()) -> None:
        self._line(self._name, labels, value)

    def histogram(
        self, buckets: Sequence[tuple[float, int]], total: int, total_sum: float, labels: Labels = ()
    ) -> None:
        """Cumulative counts by rising upper bound, without the infinite one, which is `total`."""
        for bound, count in buckets:
            self._line(f"{self._name}_bucket", (*labels, ("le", number(bound))), count)
        self._line(f"{self._name}_bucket", (*labels, ("le", "+Inf")), total)
        self._line(f"{self._name}_sum", labels, total_sum)
        self._line(f"{self._name}_count", labels, total)

    def _line(self, name: str, labels: Labels, value: float) -> None:
        if not self._has_begun:
            self._begin()
        if labels:
            inside = ",".join([f'{key}="{text.translate(_ESCAPED)}"' for key, text in labels])
            self._lines.append(f"{name}{{{inside}}} {number(value)}")
        else:
            self._lines.append(f"{name} {number(value)}")

    def _begin(self) -> None:
        assert self._metric is not None
        self._has_begun = True
        name = self._metric.name
        if self._style == "openmetrics" and self._metric.kind == "counter":
            name = name.removesuffix("_total")
        text = self._metric.help.replace("\\", r"\\").replace("\n", r"\n")
        self._lines.append(f"# HELP {name} {text}")
        self._lines.append(f"# TYPE {name} {self._metric.kind}")

    def text(self) -> str:
        """The whole page."""
        end = ["# EOF"] if self._style == "openmetrics" else []
        return "".join(f"{line}\n" for line in (*self._lines, *end))


def number(value: float) -> str:
    """A number as both formats write it.

    >>> [number(value) for value in (3, 0.25, float("inf"), 1e-05)]
    ['3', '0.25', '+Inf', '1e-05']
    """
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
