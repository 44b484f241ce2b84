"""`gridctl warmup`: compile the replay engine now, so that the first replay does not."""

from __future__ import annotations

from gridctl.cli.output import note


def command() -> None:
    """Compile the router, the twin and the replay loop into the cache. For CI images and impatient people.

    Example:
      gridctl warmup
    """
    import time

    from gridctl.kernels import cache_folder, is_warm

    if not is_warm():
        note("compiling the replay engine")
    started = time.perf_counter()
    from gridctl.replay.warmup import warm_up

    warm_up()
    note(f"ready in {time.perf_counter() - started:.1f} s; compiled code is in {cache_folder()}")
