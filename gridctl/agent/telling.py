"""Telling: what a site reports, made of what lies on its disk and runs in its engine. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from gridctl import __version__
from gridctl.agent.worker import Worker
from gridctl.rollout.protocol import Actual, Report

MAX_STAGED = 64
MAX_MODELS = 256
MAX_ERRORS = 16
MAX_ERROR = 500


def actual_of(worker: Worker, model: str) -> Actual:
    """What the site holds of one model."""
    pointers = worker.versions.pointers(model)
    under_way = worker.fetch
    is_fetching = under_way is not None and under_way.wanted.model == model
    return Actual(
        model=model,
        committed=pointers.committed,
        previous=pointers.previous,
        trial=pointers.trial,
        staged=tuple(sorted(worker.versions.whole(model) - pointers.named))[:MAX_STAGED],
        fetching=under_way.progress if under_way is not None and is_fetching else None,
        failed=pointers.failed,
        bytes_received=pointers.bytes_received,
        method=pointers.method,
    )


def report_of(worker: Worker, boot_id: str, sequence: int, errors: Sequence[str], now_unix_s: float) -> Report:
    """The report of this moment."""
    free, total = worker.versions.folder.disk()
    return Report(
        boot_id=boot_id,
        seq=sequence,
        generation=worker.journal.value.generation,
        agent_version=__version__,
        actual=tuple(actual_of(worker, model) for model in worker.versions.models[:MAX_MODELS]),
        disk_free_bytes=free,
        disk_total_bytes=total,
        link_bytes_per_s=worker.link_bytes_per_s,
        engine_ok=worker.watch.is_well,
        probe=dict(worker.watch.figures),
        errors=tuple(error[:MAX_ERROR] for error in errors[:MAX_ERRORS]),
        now_unix_s=now_unix_s,
    )
