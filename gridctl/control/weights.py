"""Weights: which version of a model's weights the engines of a site serve, as the site's agent last said.

Decides the digest that an engine's answers are kept under, so that a version's answers can be purged. A site without
an agent says nothing, and its answers have no digest. A report that says its engine does not answer changes nothing.
"""

from __future__ import annotations

from gridctl.broker.plan import Backend
from gridctl.rollout.protocol import Report, Version


class Weights:
    """Versions by site and model; `changes` counts how often one became another."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str], Version] = {}
        self.changes = 0

    def __len__(self) -> int:
        return len(self._served)

    def take(self, site: str, report: Report) -> None:
        """Hear a site's report, the newest of its."""
        if not report.engine_ok:
            return
        for actual in report.actual:
            version = actual.serving
            if version is not None and self._served.get((site, actual.model)) != version:
                self._served[site, actual.model] = version
                self.changes += 1

    def digest_of(self, backend: Backend) -> str:
        """The digest of what an engine serves; "" where that is not known, or another variant is declared."""
        version = self._served.get((backend.site, backend.model))
        return version.digest if version is not None and version.variant == backend.variant else ""
