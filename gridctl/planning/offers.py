"""Offers: which engines could be bought, and what a GPU-hour costs where.

Decides which variants fit which GPUs, on how few of them, and which price holds: what a cluster of that GPU at the site
declares, else the median of what clusters of that GPU declare in the core, or outside it, else the price book's,
raised by the markup outside the core. Knows nothing of speed: a replay tells how much an engine serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from gridctl.engine.memory import plan_memory
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.grid.check import SMALLEST_CONTEXT
from gridctl.grid.image import FALLBACK_PRICES
from gridctl.grid.view import GridView
from gridctl.resources import Deployment, EngineLimits, Model, PriceBookSpec, Site, Variant

PARALLEL = (1, 2, 4, 8)
"""Tensor-parallel widths that are tried."""
TIGHT = 0.5
"""Where weights take more than this share of the memory, the next width is offered, too: it serves more at once."""
WATTS_PER_KILOWATT = 1000.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One kind of engine: a variant on so many GPUs of a type, under these limits."""

    gpu: str
    model: str
    variant: str
    tensor_parallel: int
    engine: EngineLimits
    quality: float | None

    @property
    def reference(self) -> str:
        """`model/variant`."""
        return f"{self.model}/{self.variant}"

    def __str__(self) -> str:
        return f"{self.reference} on {self.tensor_parallel} {self.gpu}"

    def deployment(self, replicas: int = 1) -> Deployment:
        """So many engines of the kind."""
        return Deployment(
            variant=self.reference, replicas=replicas, tensor_parallel=self.tensor_parallel, engine=self.engine
        )


def check_gpu(view: GridView, name: str, where: str) -> None:
    """Raise NotFoundError with the nearest name when the grid knows no such GPU."""
    if name not in view.gpus:
        raise _unknown("GPU", name, view.gpus, where, "gridctl gpu list")


def check_models(view: GridView, names: Iterable[str]) -> None:
    """Raise NotFoundError with the nearest name for a model that the grid does not have."""
    for name in names:
        if name not in view.models:
            raise _unknown("model", name, view.models, "--models", "gridctl model list")


def engine_offers(view: GridView, gpus: Sequence[str], models: Iterable[str], *, wider: bool = False) -> list[Offer]:
    """Every variant of the models on every GPU, at the smallest tensor-parallel width that holds it; with `wider` at
    the next, too, where the smallest is tight.

    Raises: NotFoundError for a GPU or model that the grid does not know.
    """
    found = []
    for gpu in gpus:
        check_gpu(view, gpu, "--gpus")
        for name in sorted(set(models)):
            check_models(view, [name])
            model = view.models[name]
            for variant in model.spec.variants:
                found += _fitting(view, gpu, model, variant, wider)
    return found


def _fitting(view: GridView, gpu: str, model: Model, variant: Variant, wider: bool) -> list[Offer]:
    limits = _limits(view, gpu, f"{model.name}/{variant.name}")
    offers: list[Offer] = []
    for width in PARALLEL:
        offer = Offer(gpu, model.name, variant.name, width, limits, variant.quality)
        plan = plan_memory(model.spec, variant, view.gpus[gpu].spec, offer.deployment())
        if plan.kv_blocks * limits.block_size < SMALLEST_CONTEXT:
            continue
        offers.append(offer)
        if not wider or len(offers) > 1 or plan.weight_bytes <= TIGHT * plan.usable_bytes:
            break
    return offers


def _limits(view: GridView, gpu: str, reference: str) -> EngineLimits:
    """Engine limits as the grid's clusters run the variant, on this GPU first; the defaults where none does."""
    deployed = [
        (cluster.spec.gpu != gpu, name, deployment.engine)
        for name, cluster in sorted(view.clusters.items())
        for deployment in cluster.spec.deployments
        if deployment.variant == reference
    ]
    return min(deployed, key=lambda one: one[:2])[2] if deployed else EngineLimits()


class Prices:
    """What a GPU-hour costs at a site, under one price book."""

    def __init__(self, view: GridView, book: str = "default", markup: float = 0.0) -> None:
        if book != "default" and book not in view.prices:
            raise _unknown("price book", book, view.prices, "--prices", "gridctl price list")
        self.book = view.prices[book].spec if book in view.prices else PriceBookSpec()
        self._view = view
        self._markup = markup

    def usd_per_gpu_hour(self, gpu: str, site: Site) -> float:
        """Dollars an hour, without electricity. Raises: InputError where nothing says a price."""
        return self._priced(gpu, site.spec.tier == "core", site.name)

    def usd_in(self, gpu: str, *, core: bool) -> float:
        """Dollars an hour somewhere in the core, or somewhere outside it."""
        return self._priced(gpu, core, None)

    def electricity(self, gpu: str, site: Site) -> float:
        """Dollars an hour for the power of a busy GPU, where the grid prices electricity."""
        per_kwh = self.book.usd_per_kwh if site.spec.usd_per_kwh is None else site.spec.usd_per_kwh
        return self._view.gpus[gpu].spec.watts / WATTS_PER_KILOWATT * per_kwh

    def _priced(self, gpu: str, core: bool, site: str | None) -> float:
        clusters = [
            one for one in self._view.clusters.values() if one.spec.gpu == gpu and one.spec.site in self._view.sites
        ]
        here = [one.spec.usd_per_gpu_hour for one in clusters if one.spec.site == site]
        alike = [
            one.spec.usd_per_gpu_hour
            for one in clusters
            if (self._view.sites[one.spec.site].spec.tier == "core") == core
        ]
        for declared in (here, alike):
            said = [price for price in declared if price is not None]
            if said:
                return median_low(said)
        price = self.book.gpu_hour_usd.get(gpu, FALLBACK_PRICES.get(gpu))
        if price is None:
            raise InputError(
                f"no price for an hour of {gpu}",
                where="price book",
                fix=f"add {gpu} to gpu_hour_usd of the price book",
            )
        return price * (1.0 if core else 1.0 + self._markup)


def _unknown(what: str, name: str, known: Iterable[str], where: str, command: str) -> NotFoundError:
    near = did_you_mean(name, known)
    return NotFoundError(f"{what} {name} does not exist", where=where, fix=f"did you mean {near}?" if near else command)
