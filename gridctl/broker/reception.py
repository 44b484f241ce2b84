"""Reception: requests understood under a plan: who asks, for what, from where, how long it is and will be.

Decides nothing about engines beyond the group that may serve. What is learned of answers' and prompts' lengths outlives
the plan.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from gridctl.broker.ask import UNNAMED_SESSION, Ask, Principal
from gridctl.broker.blocks import WINDOW_BYTES, prompt_blocks, tenant_seed
from gridctl.broker.body import ANSWERS_IN_ONE, read_body
from gridctl.broker.courtesies import USAGE_ON_REQUEST, deadline_of, endpoint_of, request_id_of, session_of
from gridctl.broker.groups import Group, Groups
from gridctl.broker.head import Head
from gridctl.broker.keys import Keyring
from gridctl.broker.learning import Lengths, TokenRates
from gridctl.broker.live import Live
from gridctl.broker.menu import Meant, Menu
from gridctl.broker.origins import Origins, Where
from gridctl.broker.plan import Plan
from gridctl.broker.quota import Quotas

DRAW_BITS: Final = 31
NO_TRACE: Final = ""
MOST_CALLERS: Final = 1024
"""Heads remembered; beyond them all are read anew."""
MOST_MODELS: Final = 64
"""Models remembered of one head."""
CERTAIN_PART: Final = 2
"""A text of n estimated tokens has n / CERTAIN_PART for sure: engines count, we only refuse what is certain."""


class Lessons:
    """What a worker keeps over all plans: what ended requests taught of lengths, and how much each key asked for."""

    def __init__(self, worker: int = 0) -> None:
        self.quotas = Quotas(worker)
        self.rates = TokenRates()
        self.lengths = Lengths({})

    def adopt(self, live: Live) -> None:
        """Go on with the workloads of another plan."""
        lengths = Lengths({name: spec.traffic.mean_output_tokens for name, spec in live.workloads.items()})
        lengths.adopt(self.lengths)
        self.lengths = lengths

    def learn(self, ask: Ask, prompt_tokens: int, output_tokens: int) -> None:
        """A request was answered with so many tokens; its prompt had so many by the engine's count, 0: not said."""
        if output_tokens > 0:
            self.lengths.learn(ask.workload, output_tokens)
        if prompt_tokens > 0 and ask.text_bytes > 0 and ask.media_tokens == 0 and ask.group is not None:
            self.rates.learn(ask.group.meant.model or "", ask.text_bytes, prompt_tokens)


class _Meaning:
    """What a head and a model's name mean together; `model` is empty where any of the workload's will do."""

    __slots__ = ("group", "model", "when_infeasible", "workload")

    def __init__(self, group: Group, when_infeasible: str) -> None:
        self.group = group
        self.workload = group.meant.workload
        self.model = group.meant.model or ""
        self.when_infeasible = when_infeasible


class _Caller:
    """What a request's head tells. Heads that are alike share their headers, which nobody changes, so it is found by
    which dictionary that is: holding the dictionary keeps its address from being another one's."""

    __slots__ = (
        "endpoint",
        "headers",
        "jurisdiction",
        "meanings",
        "method",
        "origin",
        "path",
        "patience_ns",
        "peer",
        "principal",
        "request_id",
        "seed",
        "session",
        "wanted",
        "where",
    )

    headers: Mapping[bytes, bytes]
    method: str
    path: str
    peer: str
    endpoint: str
    principal: Principal
    wanted: str
    where: Where
    seed: bytes
    session: int | None
    patience_ns: int
    request_id: str
    origin: str
    jurisdiction: str
    meanings: dict[str, _Meaning]


class Reception:
    """One plan's door. Raises InputError for settings that name places or workloads that do not exist."""

    def __init__(self, plan: Plan, live: Live, lessons: Lessons, generator: random.Random) -> None:
        view = live.whole.view
        self._live = live
        self._lessons = lessons
        self._settings = plan.settings
        self._salt = plan.salt
        self._origins = Origins(view.sites, plan.settings)
        self._menu = Menu(view.workloads, view.models, live.backends, plan.settings)
        self._keyring = Keyring(plan.keys, plan.settings)
        self._groups = Groups(live, plan.generation)
        self._seeds: dict[str, bytes] = {}
        self._bits = generator.getrandbits
        self._callers: dict[int, _Caller] = {}
        self._adds_usage = plan.settings.adds_usage
        self._when_infeasible = {name: spec.when_infeasible for name, spec in live.workloads.items()}
        lessons.quotas.adopt(plan)

    def principal(self, head: Head) -> Principal:
        """Who asks. Raises Refusal: 401 or 403."""
        return self._keyring.principal(head.headers)

    def offered(self, principal: Principal) -> list[str]:
        """The names that the caller may put in `model`."""
        return self._menu.offered(principal)

    def group_of(self, principal: Principal, origin: str | None, model: str) -> Group:
        """The candidates of such requests; `origin` may be any place, None is the default. Raises what `ask` does, and
        InputError or NotFoundError for an origin that nobody knows."""
        where = self._origins.default if origin is None else self._origins.named(origin)
        return self.group(where, self._menu.meaning(principal, "", model))

    def group(self, where: Where, meant: Meant) -> Group:
        """The candidates of requests that come from there and mean that."""
        return self._groups.of(where, meant)

    def ask(self, head: Head, body: bytes, now_ns: int) -> Ask:
        """Understand a request. Raises Refusal for one that cannot be, or that its caller may not make."""
        headers = head.headers
        caller = self._callers.get(id(headers))
        if (
            caller is None
            or caller.headers is not headers
            or caller.path != head.path
            or caller.peer != head.peer
            or caller.method != head.method
        ):
            caller = self._caller(head)
        endpoint, principal = caller.endpoint, caller.principal
        if self._keyring.has_expiring:
            principal = self._keyring.principal(headers)
        read = read_body(endpoint, body)
        meaning = caller.meanings.get(read.model)
        if meaning is None:
            group = self._groups.of(caller.where, self._menu.meaning(principal, caller.wanted, read.model))
            meaning = _Meaning(group, self._when_infeasible[group.meant.workload])
            if len(caller.meanings) < MOST_MODELS:
                caller.meanings[read.model] = meaning
        prompt = read.prompt
        exact = prompt.exact_tokens
        rate = self._lessons.rates.rate(meaning.model)
        text_tokens = exact if exact is not None else max(1, int(prompt.text_bytes * rate))
        prompt_tokens, most = text_tokens + prompt.media_tokens, read.max_tokens
        output_tokens = 1 if endpoint in ANSWERS_IN_ONE else self._lessons.lengths.expected(meaning.workload, most)
        self._lessons.quotas.take(principal.name, prompt_tokens + output_tokens, now_ns)
        session = caller.session
        if session is None and read.affinity:
            session = session_of(headers, read.affinity, caller.seed)
        # In the order of Ask's fields: so many names would take longer to match than all else here.
        return Ask(
            caller.request_id,
            endpoint,
            principal,
            meaning.workload,
            principal.tenant,
            caller.origin,
            read.model,
            now_ns,
            now_ns + caller.patience_ns,
            read.stream,
            read.wants_usage,
            prompt_tokens,
            exact if exact is not None else text_tokens // CERTAIN_PART,
            prompt.text_bytes if exact is None else 0,
            prompt.media_tokens,
            most,
            output_tokens,
            self._bits(DRAW_BITS),
            UNNAMED_SESSION if session is None else session,
            prompt_blocks(caller.seed, prompt.text),
            max(1, int(WINDOW_BYTES * rate)),
            NO_TRACE,
            meaning.when_infeasible,
            caller.jurisdiction,
            self._adds_usage and read.stream and not read.wants_usage and endpoint in USAGE_ON_REQUEST,
            meaning.group,
        )

    def _caller(self, head: Head) -> _Caller:
        """Read a head that is not like one before. Raises Refusal."""
        caller = _Caller()
        headers = caller.headers = head.headers
        caller.path, caller.peer, caller.method = head.path, head.peer, head.method
        caller.endpoint = endpoint_of(head.method, head.path)
        caller.principal = self._keyring.principal(headers)
        wanted = headers.get(b"x-gridctl-workload")
        caller.wanted = wanted.decode("latin-1") if wanted is not None else ""
        caller.where = self._origins.of(head)
        caller.seed = self._seed(caller.principal.tenant)
        caller.session = session_of(headers, b"", caller.seed)
        caller.patience_ns = deadline_of(headers, self._settings.deadline_ms, 0)
        caller.request_id = request_id_of(headers)
        caller.origin, caller.jurisdiction = caller.where.origin.name, caller.where.origin.jurisdiction
        caller.meanings = {}
        if len(self._callers) >= MOST_CALLERS:
            self._callers.clear()
        self._callers[id(headers)] = caller
        return caller

    def _seed(self, tenant: str) -> bytes:
        seed = self._seeds.get(tenant)
        if seed is None:
            seed = self._seeds[tenant] = tenant_seed(self._salt, tenant)
        return seed
