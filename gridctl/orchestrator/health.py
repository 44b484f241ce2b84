"""Health for commands: asked of the orchestrator that serves the grid; without one, told from what is declared.

Decides nothing about health. A context that names an orchestrator elsewhere must answer; on this machine none need run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live import running

if TYPE_CHECKING:
    from gridctl.health.reports import HealthReport, SiteReport


def is_served(home: GridHome) -> bool:
    """Whether there is an orchestrator to ask."""
    return home.remote is not None or running(home) is not None


def health_of(home: GridHome) -> HealthReport:
    """What is wrong with the grid now."""
    from gridctl.orchestrator.live_client import client_of

    if is_served(home):
        with client_of(home) as client:
            return client.health()
    from gridctl.health.status import declared_report

    with home.open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    return declared_report(home.folder.name, time.time_ns(), resources)


def site_of(home: GridHome, name: str) -> SiteReport:
    """One site on one screen. Raises: NotFoundError."""
    from gridctl.orchestrator.live_client import client_of

    if is_served(home):
        with client_of(home) as client:
            return client.site(name)
    from gridctl.health.inspection import declared_site_report

    with home.open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
        return declared_site_report(resources, name, time.time_ns(), registry.events(limit=500))
