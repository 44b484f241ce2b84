"""Measures the step times of a Llama-shaped model with random weights on this machine, then an unseen load on it.

    python tests/bench/gpu_step_times.py --out measured/                       # any CUDA machine with PyTorch
    python tests/bench/gpu_step_times.py --out measured/ --device cpu --tiny   # this script itself, under a minute

Needs PyTorch and NumPy, not gridctl. Writes operator tables (`op_attention.csv`, `op_dense.csv`,
`op_per_sequence.csv`), the machine and the model as manifests (`gpu.yaml`, `model.yaml`) and the load's requests
(`measured.csv.gz`), and prints the two commands that fit a profile and validate it. The load is not looked at by any
measurement before it: Poisson arrivals, log-normal lengths, continuous batching with chunked prefill.

What is timed: each kernel group over all layers' own weights and caches in one CUDA graph (so caches of the chip are
as cold as in a step), CUDA events, median of `REPEATS`, per launch, less the `GAP_US` that `profile fit` adds for every
kernel. `kv_write` is what writing KV takes beyond the norm's time that `profile fit` allows for it. Decode steps of the
load replay CUDA graphs, steps with a prefill launch kernel by kernel. On a CPU, processor time of plain calls: that
mode tries the script; a CPU keeps part of a tiny model's weights in its caches, so that its tables are too quick.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from gpu_engine import Clock, Engine, Request, mean_output_tokens, requests_of
from gpu_llama import Llama, Prefill, Shape

GAP_US = 1.0
REPEATS, CPU_REPEATS, WARM_UPS = 15, 5, 2
TINY = Shape(layers=8, hidden=512, heads=8, kv_heads=2, head_dim=64, intermediate=1408, vocab=8192)
TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536,
          1792, 2048, 2560, 3072, 4096, 6144, 8192)  # fmt: skip
SEQUENCES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
KV_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192)
CHECKED_KV = 256
KERNELS_PER_LAYER = 10
HEADERS = {
    "dense": "layer,tokens,time_us",
    "per_sequence": "layer,sequences,time_us",
    "attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us",
}
MEMORY_SHARE = 0.85
FEWEST_LAYERS = 4
LOAD = 0.6  # of the tokens per second that a half-full batch decodes, unless a rate is given
Rows = list[tuple[Any, ...]]


class Stopwatch:
    """Times calls on the device."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"
        self.clock = Clock(device)

    def median_us(self, calls: list[Callable[[], object]]) -> float:
        """Microseconds of one of `calls`, run one after another."""
        run = self._graph(calls) if self.is_cuda else self._plain(calls)
        repeats = REPEATS if self.is_cuda else CPU_REPEATS
        times = [self._once(run) for _ in range(repeats + WARM_UPS)][WARM_UPS:]
        return max(0.05, statistics.median(times) / len(calls) - (GAP_US if self.is_cuda else 0.0))

    def _plain(self, calls: list[Callable[[], object]]) -> Callable[[], object]:
        def run() -> None:
            for call in calls:
                call()

        return run

    def _graph(self, calls: list[Callable[[], object]]) -> Callable[[], object]:
        run = self._plain(calls)
        run()  # compiles and chooses kernels, which a capture cannot
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def _once(self, run: Callable[[], object]) -> float:
        if not self.is_cuda:
            begin = self.clock.now()
            run()
            return (self.clock.now() - begin) * 1e6
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3


class Tables:
    """The three operator tables of a model."""

    def __init__(self, model: Llama, seqs: int, budget: int) -> None:
        self.model, self.seqs, self.budget = model, seqs, budget
        self.watch = Stopwatch(model.device)
        self.layers = range(model.shape.layers)

    def dense(self) -> Rows:
        """layer, tokens, time_us."""
        rows: Rows = []
        for tokens in [count for count in TOKENS if count < self.budget] + [self.budget]:
            times = self._dense_times(tokens)
            times["kv_write"] = max(0.05, times["kv_write"] - times["layernorm"])
            rows += [(name, tokens, round(us, 4)) for name, us in times.items()]
        return sorted(rows, key=lambda row: (str(row[0]), row[1]))

    def _dense_times(self, tokens: int) -> dict[str, float]:
        model, shape, watch, layers = self.model, self.model.shape, self.watch, self.layers
        device = model.device
        ids = torch.randint(shape.vocab, (tokens,), device=device)
        positions = torch.arange(tokens, device=device) % model.capacity
        slots = torch.arange(tokens, device=device) // model.capacity
        hidden = torch.randn(tokens, shape.hidden, device=device, dtype=model.dtype)
        qkv = model.qkv(0, hidden)
        rotated = model.rotary(qkv, positions)
        k, v = rotated[:, shape.heads :], qkv[:, shape.heads + shape.kv_heads :]
        attended = rotated[:, : shape.heads].contiguous()
        gate_up = model.gate_up(0, hidden)
        act = model.act(gate_up)
        return {
            "embedding": watch.median_us([lambda: torch.nn.functional.embedding(ids, model.embedding)] * 4),
            "layernorm": watch.median_us([lambda: model.norm(hidden, hidden)] * len(layers)),
            "qkv_proj": watch.median_us([lambda i=i: model.qkv(i, hidden) for i in layers]),
            "rotary_emb": watch.median_us([lambda: model.rotary(qkv, positions)] * len(layers)),
            "kv_write": watch.median_us([lambda i=i: model.write(i, slots, positions, k, v) for i in layers]),
            "o_proj": watch.median_us([lambda i=i: model.o(i, attended) for i in layers]),
            "gate_up_proj": watch.median_us([lambda i=i: model.gate_up(i, hidden) for i in layers]),
            "act_fn": watch.median_us([lambda: model.act(gate_up)] * len(layers)),
            "down_proj": watch.median_us([lambda i=i: model.down(i, act) for i in layers]),
            "final_layernorm": watch.median_us([lambda: model.norm(hidden, hidden)] * 4),
        }

    def per_sequence(self) -> Rows:
        """layer, sequences, time_us."""
        rows: Rows = []
        for count in self._counts(SEQUENCES):
            hidden = torch.randn(count, self.model.shape.hidden, device=self.model.device, dtype=self.model.dtype)
            logits = self.model.head(hidden)
            rows.append(("lm_head", count, round(self.watch.median_us([lambda h=hidden: self.model.head(h)] * 2), 4)))
            rows.append(("sampler", count, round(self.watch.median_us([lambda x=logits: self.model.sample(x)] * 2), 4)))
        return sorted(rows, key=lambda row: (str(row[0]), row[1]))

    def attention(self) -> Rows:
        """prefill_chunk, kv_prefill, n_decode, kv_decode, time_us: decodes alone, prefills alone, both."""
        capacity = self.model.capacity
        kv = [count for count in KV_TOKENS if count < capacity] + [capacity - 1]
        counts = self._counts((1, 2, 4, 8, 16, 32, 64, 128, 256))
        chunks = [count for count in (16, 64, 128, 256, 512, 1024, 2048, 4096) if count < self.budget] + [self.budget]
        batches = [(0, 0, n, length) for n in counts for length in kv]
        for chunk in chunks:
            room = capacity - chunk
            batches += [(chunk, before, 0, 0) for before in sorted({0, room // 4, room // 2, room})]
        few = sorted({chunks[0], chunks[len(chunks) // 2], chunks[-1]})
        batches += [
            (chunk, 0, n, length) for chunk in few for n in counts[2::2] for length in (kv[0], kv[len(kv) // 2], kv[-1])
        ]
        return [(*batch, round(self._attention_us(batch), 4)) for batch in batches]

    def _attention_us(self, batch: tuple[int, int, int, int]) -> float:
        chunk, before, n, length = batch
        model, shape = self.model, self.model.shape
        q = torch.randn(n + chunk, shape.heads, shape.head_dim, device=model.device, dtype=model.dtype)
        slots = torch.arange(n, device=model.device)
        lengths = torch.full((n,), length, device=model.device)
        prefill = Prefill(n, before, chunk)

        def attend(layer: int) -> None:
            if n:
                model.decode_attention(layer, q[:n], slots, lengths)
            if chunk:
                model.prefill_attention(layer, q[n:], prefill)

        return self.watch.median_us([lambda i=i: attend(i) for i in self.layers])

    def _counts(self, counts: Iterable[int]) -> list[int]:
        return [count for count in counts if count < self.seqs] + [self.seqs]


def decode_step_s(engine: Engine, count: int, context: int) -> tuple[float, float]:
    """Wall seconds of a whole decode step of the engine, and of the model's part of it alone."""
    batch = [Request(str(i), context, 10**6, 0.0, slot=i, computed=context, made=1) for i in range(count)]
    model, watch = engine.model, Stopwatch(engine.model.device)
    ids, slots = torch.ones(count, device=model.device, dtype=torch.int64), torch.arange(count, device=model.device)
    places, lengths = torch.full_like(ids, context), torch.full_like(ids, context + 1)

    def alone() -> object:
        return model.step(ids, places, slots, count, lengths, [], slots)

    walls = []
    for _ in range(REPEATS + WARM_UPS):
        begin = engine.clock.now()
        engine.run_step(batch, [])
        walls.append(engine.clock.now() - begin)
        for one in batch:
            one.made = 1
    kernels_s = (watch.median_us([alone]) + (GAP_US if watch.is_cuda else 0.0)) / 1e6
    return statistics.median(walls[WARM_UPS:]), kernels_s


def added_up_s(tables: dict[str, Rows], layers: int, count: int, is_cuda: bool) -> float:
    """Seconds of a decode step of `count` × CHECKED_KV tokens as the tables have it, the gaps between kernels included:
    whether what was timed alone is what a step runs."""
    us = {str(name): float(time_us) for name, tokens, time_us in tables["dense"] if tokens == count}
    in_layer = sum(time_us for name, time_us in us.items() if name not in ("embedding", "final_layernorm"))
    in_layer += 2 * us["layernorm"]  # the second norm, and what `profile fit` allows for writing KV
    in_layer += sum(float(row[4]) for row in tables["attention"] if row[:4] == (0, 0, count, CHECKED_KV))
    once = us["embedding"] + us["final_layernorm"] + sum(float(r[2]) for r in tables["per_sequence"] if r[1] == count)
    gaps = KERNELS_PER_LAYER * layers * GAP_US if is_cuda else 0.0
    return (layers * in_layer + once + gaps) / 1e6


def machine_facts(device: str) -> tuple[str, float, float, float]:
    """Name, memory in GiB, achieved bandwidth in GB/s and achieved matrix TFLOP/s.

    A GPU copies; a CPU, whose cores do not saturate its memory, multiplies a matrix by a vector, counted in the two
    bytes a weight that manifests assume."""
    watch = Stopwatch(device)
    if device == "cuda":
        source = torch.randn(1 << 30, device=device, dtype=torch.bfloat16)
        target = torch.empty_like(source)
        bandwidth = 4.0 * source.numel() / watch.median_us([lambda: target.copy_(source)]) / 1e3
        name, gib, width = torch.cuda.get_device_name(0), torch.cuda.mem_get_info()[1] / 2**30, 8192
    else:
        source = torch.randn(1 << 24)
        matrix, vector = source.view(-1, 512), torch.randn(1, 512)
        bandwidth = 2.0 * source.numel() / watch.median_us([lambda: torch.nn.functional.linear(vector, matrix)]) / 1e3
        name, gib, width = platform.machine() + "-cpu", 4.0, 512
    square = source[: width * width].view(width, width)
    rate = 2.0 * width**3 / watch.median_us([lambda: square @ square]) / 1e6
    return name, gib, bandwidth, rate


def layers_that_fit(shape: Shape, seqs: int, capacity: int) -> int:
    """Layers of the model, reduced to those that fit this GPU's free memory with their KV."""
    free = torch.cuda.mem_get_info()[0] * MEMORY_SHARE - 4.0 * shape.vocab * shape.hidden
    layer = 2.0 * shape.layer_parameters + 2.0 * (seqs + 1) * capacity * shape.kv_elements / shape.layers
    return min(shape.layers, int(free / layer))


def write_csv(path: Path, header: str, rows: Rows) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def manifest(kind: str, name: str, lines: list[str]) -> str:
    return f"apiVersion: gridctl/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n" + "".join(
        f"  {line}\n" for line in lines
    )


def slug(text: str) -> str:
    return "-".join("".join(char if char.isalnum() else " " for char in text.lower()).split())[:50]


def write_manifests(folder: Path, shape: Shape, facts: tuple[str, float, float, float], overhead_us: float) -> None:
    name, gib, bandwidth, tflops = facts
    figures = [
        f"memory_gib: {gib:.1f}",
        f"bandwidth_gbs: {bandwidth:.1f}",
        f"bf16_tflops: {tflops:.3f}",
        "bandwidth_efficiency: 1.0",
        "compute_efficiency: 1.0",
        f"step_overhead_us: {overhead_us:.1f}",
    ]
    (folder / "gpu.yaml").write_text(manifest("Gpu", slug(name), figures))
    figures = ["architecture:", f"  layers: {shape.layers}", f"  hidden_size: {shape.hidden}",
               f"  heads: {shape.heads}", f"  kv_heads: {shape.kv_heads}", f"  head_dim: {shape.head_dim}",
               f"  intermediate_size: {shape.intermediate}", f"  vocab_size: {shape.vocab}",
               "variants:", "- name: bf16", "  dtype: bf16"]  # fmt: skip
    (folder / "model.yaml").write_text(manifest("Model", f"random-llama-{shape.layers}-layers", figures))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is measured")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model and load small enough for a laptop's CPU")
    for field, value in vars(Shape()).items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, help=f"default {value}")
    parser.add_argument("--max-num-seqs", type=int, help="sequences of a batch; default 64")
    parser.add_argument("--max-num-batched-tokens", type=int, help="tokens of a step; default 2048")
    parser.add_argument("--capacity", type=int, help="KV tokens of a sequence; default 4096")
    parser.add_argument("--requests", type=int, help="requests of the load; default 300")
    parser.add_argument("--rate", type=float, help=f"requests a second; default {LOAD:.0%} of what decodes allow")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    tiny = options.tiny
    seqs = options.max_num_seqs or (8 if tiny else 64)
    budget = options.max_num_batched_tokens or (256 if tiny else 2048)
    capacity = options.capacity or (512 if tiny else 4096)
    if capacity < budget + CHECKED_KV:
        raise SystemExit("--capacity must be well above --max-num-batched-tokens: prefills are measured after KV too")
    if seqs < 4 or budget < 2 * seqs:
        raise SystemExit("--max-num-seqs is at least 4, and --max-num-batched-tokens twice that")
    base = TINY if tiny else Shape()
    shape = Shape(**{field: getattr(options, field) or value for field, value in vars(base).items()})
    if options.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("PyTorch sees no CUDA device here; --device cpu --tiny runs this script without one")
        layers = layers_that_fit(shape, seqs, capacity)
        if layers < FEWEST_LAYERS:
            raise SystemExit("the GPU's free memory holds too few layers: lower --capacity or --max-num-seqs")
        if layers < shape.layers:
            print(f"memory holds {layers} of {shape.layers} layers: measuring that model")
        shape = Shape(**{**vars(shape), "layers": layers})
    else:
        torch.set_num_threads(1)  # threads that wait for each other on a busy machine would be what is measured
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        measure(options, shape, seqs, budget, capacity)


def measure(options: argparse.Namespace, shape: Shape, seqs: int, budget: int, capacity: int) -> None:
    """All of it, in order: machine, tables, engine, load."""
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begin:6.1f} s  {text}", flush=True)

    out, device = options.out, options.device
    facts = machine_facts(device)
    say(f"{facts[0]}: {facts[2]:,.0f} GB/s, {facts[3]:,.2f} TFLOP/s; PyTorch {torch.__version__}")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = Llama(shape, device, dtype, seqs + 1, capacity)
    kernel = "split-KV Triton kernel" if model.can_split else "one scaled_dot_product_attention per sequence"
    say(f"model {shape}; decode attention: {kernel}")
    tables = Tables(model, seqs, budget)
    measured = {"dense": tables.dense(), "per_sequence": tables.per_sequence(), "attention": tables.attention()}
    for name, rows in measured.items():
        write_csv(out / f"op_{name}.csv", HEADERS[name], rows)
        say(f"op_{name}.csv: {len(rows)} rows")
    engine = Engine(model, seqs, budget)
    engine.serve(requests_of(max(4, seqs // 2), 1000.0, capacity, options.seed + 1))  # warm-up, not counted
    half = 1 << (seqs // 2).bit_length() - 1
    steps = {count: decode_step_s(engine, count, CHECKED_KV) for count in (1, half)}
    for count, (wall_s, kernels_s) in steps.items():
        added_s = added_up_s(measured, shape.layers, count, device == "cuda")
        say(
            f"decode step of {count} × {CHECKED_KV} KV tokens: {wall_s * 1e3:.3f} ms; the model alone "
            f"{kernels_s * 1e3:.3f}; the tables add up to {added_s * 1e3:.3f}"
        )
    overhead_us = max(0.0, (steps[1][0] - steps[1][1]) * 1e6)
    write_manifests(out, shape, facts, overhead_us)
    rate = options.rate or LOAD * half / steps[half][0] / mean_output_tokens(capacity)
    requests = requests_of(options.requests or (24 if options.tiny else 300), rate, capacity, options.seed)
    say(f"load: {len(requests)} requests at {rate:.2f} a second")
    engine.serve(requests)
    rows = [
        (one.name, one.input_tokens, one.output_tokens,
         *(f"{at:.6f}" for at in (one.queued_s, one.scheduled_s, one.first_token_s, one.last_token_s)))
        for one in requests
    ]  # fmt: skip
    header = "request,input_tokens,output_tokens,queued_s,scheduled_s,first_token_s,last_token_s"
    write_csv(out / "measured.csv.gz", header, rows)
    ttft = statistics.mean(one.first_token_s - one.queued_s for one in requests)
    tpot = statistics.mean((one.last_token_s - one.first_token_s) / (one.output_tokens - 1) for one in requests)
    say(f"measured: TTFT mean {ttft * 1e3:.1f} ms, TPOT mean {tpot * 1e3:.2f} ms")
    blocks = seqs * math.ceil(capacity / 16)
    source = f"tests/bench/gpu_step_times.py on {facts[0]}, PyTorch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"
    print(f"""
gridctl profile fit --gpu {out}/gpu.yaml --model {out}/model.yaml --tables {out}/op \\
  --source "{source}" --out {out}/profile.yaml
gridctl profile validate --profile {out}/profile.yaml --measured {out}/measured.csv.gz --max-num-seqs {seqs} \\
  --max-num-batched-tokens {budget} --kv-blocks {blocks} --no-async-scheduling""")


if __name__ == "__main__":
    main()
