"""`gridctl warmup`: compile replays, the live router and mock engines now, so that the first of each does not."""

from __future__ import annotations

from gridctl.cli.output import note, progress


def command() -> None:
    """Compile the router, the twin, the replay loop and mock engines into the cache. For CI images, impatient people.

    The cache is a folder: keep it between CI runs, or bake it into the image, on machines with the same processor.

    Example:
      gridctl warmup
    """
    import time

    started = time.perf_counter()
    ready_replay()
    from gridctl.broker.warmup import warm_up_decisions
    from gridctl.kernels.cache import cache_folder
    from gridctl.mockengine.warmup import warm_up_engine
    from gridctl.signals.meter import warm_up as warm_up_counting

    warm_up_decisions()
    warm_up_counting()
    warm_up_engine()
    note(f"ready in {time.perf_counter() - started:.1f} s; compiled code is in {cache_folder()}")


def ready_decisions() -> None:
    """Have the live decision compiled, and say so where that takes time."""
    from gridctl.broker.warmup import warm_up_decisions
    from gridctl.kernels.cache import is_warm

    if not is_warm():
        note("compiling the router (once per version; gridctl warmup does it ahead of time)")
    warm_up_decisions()


def ready_replay() -> None:
    """Have the replay compiled, and say so where that takes time."""
    from gridctl.replay.warmup import is_warm, warm_up

    def waiting() -> None:
        note("another gridctl is compiling the replay engine: waiting for it")

    if not is_warm():
        note("compiling the replay engine (once per version; gridctl warmup does it ahead of time)")
    with progress("compiling", 100) as advance:
        warm_up(waiting, advance)
