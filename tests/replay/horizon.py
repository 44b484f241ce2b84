"""Replays that pass candidates over and replays that price everyone; prints the cases that differ.

Runs interpreted (NUMBA_DISABLE_JIT=1), because it makes the router exhaustive by replacing kernels: nobody is out, and
everybody may hold all that was ever sent anywhere.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from books import COLUMNS
from smallgrids import PLACES, api, cluster, deployment, gpu, model, price_book, site, trace, workload

from gridctl.grid.image import build_image
from gridctl.replay import sight
from gridctl.replay.replay import replay
from gridctl.resources import Objective, PolicySpec, Serverless, Traffic
from gridctl.resources.policy import Telemetry

BLOCK_TOKENS = 64
CASES = 40


def main() -> None:
    looks = 0
    observe, is_out, reach = sight.observe, sight._is_out, sight._reach

    def counted(*arguments: object) -> None:
        nonlocal looks
        looks += 1
        observe(*arguments)

    sight.observe = counted
    saved = 0
    for case in range(CASES):
        generator = random.Random(case)
        image, requests, policy = _case(generator)
        sight._is_out, sight._reach, looks = is_out, reach, 0
        near = replay(image, requests, policy).rows
        saved -= looks
        sight._is_out, sight._reach, looks = (lambda *_: False), (lambda fleet, scene, path, engine: path), 0
        far = replay(image, requests, policy).rows
        saved += looks
        if any((getattr(near, column) != getattr(far, column)).any() for column in COLUMNS):
            print(f"case {case} differs")  # noqa: T201
    print(f"{saved} looks saved")  # noqa: T201


def _case(generator: random.Random) -> tuple:
    pick, one_of = generator.randint, generator.choice
    parts = [gpu(gibs=one_of((5.0, 10.0, 20.0))), model()]
    for name, country, _, lat, lon in PLACES[:4]:
        cheap = {"usd_per_ms": 1e-12, "cold_start_ms": 0.0, "memory_bandwidth_gbs": 200.0, "tflops": 20.0}
        cpu = Serverless(variants=("m/bf16",), concurrency=2, **one_of(({}, cheap))) if pick(0, 2) == 0 else None
        parts += [site(name, country, one_of(("edge", "core")), lat=lat, lon=lon, serverless=cpu)]
        parts += [cluster(f"{name}-gpu", name, deployment(max_num_seqs=pick(1, 4), max_waiting=one_of((None, 1))))]
    metric = one_of(("ttft_ms", "e2e_ms", "network_ms"))
    limit = {"ttft_ms": pick(30, 400), "e2e_ms": pick(300, 3000), "network_ms": pick(15, 200)}[metric]
    second = (Objective(metric="tpot_ms", threshold_ms=float(pick(5, 60))),) if pick(0, 1) else ()
    parts.append(
        workload(
            objectives=(Objective(metric=metric, threshold_ms=float(limit)), *second),
            traffic=Traffic(mean_output_tokens=pick(1, 40)),
            when_infeasible=one_of(("serve-late", "fallback", "reject")),
            overhead_ms=float(one_of((0, 20))),
        )
    )
    if pick(0, 1):
        parts.append(price_book(api(usd_per_mtok_input=0.1, usd_per_mtok_output=0.1, ttft_ms=float(pick(1, 300)))))
    at, requests = 0, []
    gap = one_of((60, 600))
    for _ in range(50):
        at += pick(0, gap)
        prompt, family = pick(1, one_of((100, 2000))), pick(0, 4)
        blocks = tuple(100 * family + number for number in range(prompt // BLOCK_TOKENS))
        output = one_of((1, 5, 20, 100))
        requests.append({"at_ms": at, "input": prompt, "output": output, "origin": pick(0, 3), "blocks": blocks})
    policy = PolicySpec(
        allow_fallback=bool(pick(0, 2)),
        allow_serverless=bool(pick(0, 2)),
        candidates=one_of((3, 32)),
        gpu_weight=one_of((0.0, 0.0, 1.0)),
        prediction_shape=one_of((1, 2, 8)),
        telemetry=Telemetry(in_flight=one_of(("local", "local", "none"))),
    )
    origins = [place[0] for place in PLACES[:4]]
    return build_image(parts), trace(requests, origins=origins, block_tokens=BLOCK_TOKENS), policy


if __name__ == "__main__":
    main()
