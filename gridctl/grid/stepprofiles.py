"""Step profiles of a grid's engines: the measured one where there is one, else a roofline.

Which it is must be told: a table of dollars rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gridctl.engine.profile import StepProfile, profile_from
from gridctl.engine.roofline import cpu_roofline, roofline
from gridctl.grid.profiles import find_profile
from gridctl.grid.view import GridView
from gridctl.resources import Deployment, Model, Serverless, Variant


class StepProfiles:
    """One StepProfile per distinct engine, so that equal engines share a table; and notes about what they rest on."""

    def __init__(self, view: GridView) -> None:
        self._view = view
        self._known: dict[tuple[object, ...], StepProfile] = {}
        self._rooflines: dict[str, None] = {}
        self._measured: dict[str, None] = {}
        self._outside: dict[str, None] = {}

    def of_cluster(self, gpu: str, model: Model, variant: Variant, deployment: Deployment) -> StepProfile:
        """The profile of one engine of a deployment on this type of GPU."""
        parallel = (deployment.tensor_parallel, deployment.data_parallel)
        key = (gpu, model.name, variant.name, parallel, deployment.profile, deployment.engine)
        if key not in self._known:
            self._known[key] = self._made(gpu, model, variant, deployment)
        return self._known[key]

    def of_function(self, model: Model, variant: Variant, cpu: Serverless, chunk_tokens: int) -> StepProfile:
        """The profile of one function instance."""
        key = ("cpu", model.name, variant.name, cpu.memory_bandwidth_gbs, cpu.tflops, chunk_tokens)
        if key not in self._known:
            self._known[key] = cpu_roofline(model.spec, variant, cpu, chunk_tokens)
        return self._known[key]

    def _made(self, gpu: str, model: Model, variant: Variant, deployment: Deployment) -> StepProfile:
        found = find_profile(self._view, gpu, model, variant, deployment)
        what = f"{model.name}/{variant.name} on {deployment.gpus_per_engine} {gpu}"
        if found is None:
            self._rooflines[what] = None
            return roofline(model.spec, variant, self._view.gpus[gpu].spec, deployment)
        self._measured[what] = None
        limits, ranks, valid = deployment.engine, deployment.data_parallel, found.spec.valid
        tokens, sequences = limits.max_num_batched_tokens * ranks, limits.max_num_seqs * ranks
        for unit, used, covered in (("tokens", tokens, valid.tokens), ("sequences", sequences, valid.sequences)):
            if used > covered:
                self._outside[f"{what}: steps of {used:,} {unit}, profile {found.name} covers {covered:,}"] = None
        return profile_from(found.spec, tokens=tokens, sequences=sequences, source=found.name)

    def notes(self) -> Iterator[str]:
        """What a run must say about its step times."""
        if self._rooflines:
            names = ", ".join(self._rooflines)
            beside = f" ({len(self._measured)} other engine types are measured)" if self._measured else ""
            yield f"step times from rooflines, not measured: {names}{beside}; see: gridctl help accuracy"
        for text in self._outside:
            yield f"outside the measured range, extrapolated: {text}"


def context_notes(profiles: Iterable[StepProfile | None], longest: int) -> Iterator[str]:
    """What a run must say when its longest request has more tokens than its profiles were measured with."""
    covered = {profile.source: profile.longest_kv for profile in profiles if profile is not None}
    for source, tokens in sorted(covered.items()):
        if 0 < tokens < longest:
            yield (
                f"outside the measured range, extrapolated: requests of up to {longest:,} tokens,"
                f" profile {source} covers {tokens:,}"
            )
