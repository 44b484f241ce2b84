"""Menu: which model and which workload a request means, out of what its caller may have.

A model is asked for by its name, by `model/variant` to pin the variant, or as `workload:NAME`, which takes any model of
that workload. The workload is the key's own, else the header's, else the alias's, else the only one that its tenant
may use and that accepts the model, else the grid's default among those. Fails closed: a workload that does not list the
tenant is not there for it, and what is not there is not named in a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gridctl.broker.ask import Principal
from gridctl.broker.plan import Backend, Settings
from gridctl.broker.refusal import Refusal, bad_request, forbidden, unknown_model
from gridctl.errors import InputError, did_you_mean
from gridctl.resources import Model, Workload

WORKLOAD_PREFIX: Final = "workload:"
MOST_KNOWN: Final = 16_384
NAMED_IN_MESSAGE: Final = 8


class Meant(NamedTuple):
    """What a request means: a workload and, where it says so, the one model and the one variant."""

    workload: str
    model: str | None
    variant: str | None


class Menu:
    """The models and workloads of a plan, by tenant. Raises InputError for a default workload that does not exist."""

    def __init__(
        self,
        workloads: Mapping[str, Workload],
        models: Mapping[str, Model],
        backends: tuple[Backend, ...],
        settings: Settings,
    ) -> None:
        self._workloads = workloads
        self._models = models
        self._default = settings.default_workload
        if self._default is not None and self._default not in workloads:
            close = did_you_mean(self._default, workloads)
            raise InputError(
                f"the default workload {self._default} does not exist",
                where="settings.default_workload",
                fix=f"did you mean {close}?" if close else "gridctl workload list",
            )
        self._served = {backend.model for backend in backends}
        self._variants = sorted({(backend.model, backend.variant) for backend in backends})
        self._known: dict[tuple[Principal, str, str], Meant] = {}

    def meaning(self, principal: Principal, header: str, model: str) -> Meant:
        """What the caller means by a model's name and a workload header ("" without one). Raises Refusal."""
        key = (principal, header, model)
        found = self._known.get(key)
        if found is None:
            found = self._meaning(principal, header, model)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def offered(self, principal: Principal) -> list[str]:
        """The names the caller may put in `model`: models, variants and workloads with an engine that runs."""
        mine = self._mine(principal)
        models = sorted({model for name in mine for model in self._workloads[name].spec.models} & self._served)
        pinned = [f"{model}/{variant}" for model, variant in self._variants if model in models]
        named = [WORKLOAD_PREFIX + name for name in mine if self._served & set(self._workloads[name].spec.models)]
        return [*models, *pinned, *named]

    def _meaning(self, principal: Principal, header: str, asked: str) -> Meant:
        mine = self._mine(principal)
        alias, model, variant = "", asked, None
        if asked.startswith(WORKLOAD_PREFIX):
            alias, model = asked.removeprefix(WORKLOAD_PREFIX), ""
            if alias not in mine:
                raise self._unknown(asked, mine)
        elif asked not in self._models and "/" in asked:
            model, _, variant = asked.partition("/")
        if model and not self._exists(model, variant, mine):
            raise self._unknown(asked, mine)
        name = self._workload(principal, header, alias, model, mine)
        if model and model not in self._workloads[name].spec.models:
            raise self._unknown(asked, (name,))
        return Meant(name, model or None, variant)

    def _exists(self, model: str, variant: str | None, mine: tuple[str, ...]) -> bool:
        """Whether the model, and that variant of it, is declared and accepted by some workload of the caller."""
        declared = self._models.get(model)
        if declared is None or (variant is not None and declared.spec.variant(variant) is None):
            return False
        return any(model in self._workloads[name].spec.models for name in mine)

    def _workload(self, principal: Principal, header: str, alias: str, model: str, mine: tuple[str, ...]) -> str:
        said = [name for name in (principal.workload, header, alias) if name]
        if said:
            name = said[0]
            if any(other != name for other in said[1:]):
                raise forbidden(
                    f"This request is for workload {name}, and also asks for {next(o for o in said[1:] if o != name)}.",
                    reason="unknown-workload",
                )
            if name not in mine:
                raise Refusal(
                    403,
                    f"There is no workload {name} for tenant {principal.tenant}.",
                    reason="unknown-workload",
                    type="permission_error",
                    code="unknown_workload",
                    should_retry=False,
                )
            return name
        fitting = [name for name in mine if not model or model in self._workloads[name].spec.models]
        if len(fitting) == 1:
            return fitting[0]
        if self._default in fitting:
            return str(self._default)
        names = ", ".join(fitting[:NAMED_IN_MESSAGE])
        raise bad_request(
            f"Several workloads accept `{model}`; say which in the x-gridctl-workload header: {names}",
            param="x-gridctl-workload",
            code="ambiguous_workload",
        )

    def _mine(self, principal: Principal) -> tuple[str, ...]:
        """The workloads that list the caller's tenant, of a bound key only its own."""
        return tuple(
            name
            for name, workload in self._workloads.items()
            if principal.tenant in workload.spec.tenants and principal.workload in (None, name)
        )

    def _unknown(self, asked: str, mine: tuple[str, ...]) -> Refusal:
        models = sorted({model for name in mine for model in self._workloads[name].spec.models})
        close = did_you_mean(asked, [*models, *(WORKLOAD_PREFIX + name for name in mine)]) if len(asked) < 64 else None
        return unknown_model(asked, f" Did you mean `{close}`?" if close else "")
