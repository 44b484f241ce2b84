"""The route of sites' agents: a report in, the desired state out.

An agent may speak for its own site and do nothing else; whoever else asks, is refused. Reports that are not the newest
change nothing, and are answered all the same: the answer is the whole desired state, and no harm to repeat.
"""

from __future__ import annotations

from typing import Any

from gridctl.control.admin import Call, Route, Tagged
from gridctl.control.problems import DeniedError
from gridctl.errors import NotFoundError
from gridctl.resources import Site
from gridctl.rollout.protocol import LONGEST_REPORT, Desired, Report


async def _sync(call: Call) -> object:
    site = call.path["name"]
    if call.principal.site != site:
        raise DeniedError(
            403,
            "forbidden",
            f"{call.principal.name} is for another site",
            fix="use the token of this site's agent: gridctl token create NAME --role agent --site SITE",
        )
    if not any(isinstance(one, Site) and one.name == site for one in call.live.plan.resources):
        raise NotFoundError(f"the grid has no site {site}", fix="see them: gridctl site list")
    content, etag = await call.live.rollouts.sync(site, call.body, call.if_none_match)
    return Tagged(content, etag)


def _desired() -> Any:
    return Desired


def _report() -> Any:
    return Report


SITE_ROUTES = (
    Route(
        "POST",
        "/v1/sites/{name}/sync",
        "agent",
        "A site's report; what the site should hold. 304 for what If-None-Match names.",
        _sync,
        _desired,
        body=_report,
        longest_body=LONGEST_REPORT,
    ),
)
