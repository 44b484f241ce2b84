"""Places: which engine of the grid served a request, by what the gateway's headers say.

Replicas of a deployment answer alike and are not told apart, so requests are dealt to them in turn. An endpoint that
says nothing is the one deployment of the grid that serves the model, if there is just one. What the grid does not
declare is an engine of its own without prices.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.accounts.facts import EngineFacts
from gridctl.liveload.connection import Reply

_Key = tuple[str, str, str]


class Places:
    """The engines of a live run: the grid's, then those met beside it."""

    def __init__(self, engines: Sequence[EngineFacts], model: str) -> None:
        self.engines = list(engines)
        self._model = model
        self._known: dict[_Key, list[int]] = {}
        self._turn: dict[_Key, int] = {}
        for index, facts in enumerate(self.engines):
            if facts.kind != "unused":
                self._known.setdefault((facts.site, facts.cluster, f"{facts.model}/{facts.variant}"), []).append(index)
        self.met: list[str] = []
        silent = [key for key in self._known if key[2].partition("/")[0] == model]
        if len(silent) == 1:
            self._known["", "", ""] = self._known[silent[0]]

    def engine_of(self, reply: Reply) -> int:
        """The engine that served a reply."""
        site, cluster, variant = (
            reply.headers.get(name, b"").decode("latin-1")
            for name in (b"x-gridctl-site", b"x-gridctl-cluster", b"x-gridctl-model-variant")
        )
        key = (site, cluster, variant)
        if key not in self._known:
            self._known[key] = [self._meet(*key)]
        among = self._known[key]
        turn = self._turn.get(key, 0)
        self._turn[key] = turn + 1
        return among[turn % len(among)]

    def _meet(self, site: str, cluster: str, variant: str) -> int:
        """An engine that the grid does not declare."""
        model, _, name = variant.partition("/")
        beside = next((facts for facts in self.engines if facts.site == site and site), None)
        self.engines.append(
            EngineFacts(
                kind="api",
                cluster=cluster,
                site=site,
                tier=beside.tier if beside else "api",
                region=beside.region if beside else "",
                model=model or self._model,
                variant=name or "live",
            )
        )
        self.met.append(variant or "an endpoint that does not say where it serves")
        return len(self.engines) - 1
