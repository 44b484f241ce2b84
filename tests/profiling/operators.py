"""Operator tables: made from laws known in closed form, so that a fit has an answer; and the measured ones."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gridctl.profiling.tables import OperatorTables

Law = Callable[[int, int, int, int], float]

CHUNKS = (16, 64, 256, 1024, 2048)
BEFORE = (0, 512, 2048, 8192)
DECODES = (1, 2, 8, 32, 64, 128)
LENGTHS = (16, 128, 1024, 4096, 16384)
TOKENS = (1, 2, 4, 8, 16, 64, 256, 1024, 2048)
SEQUENCES = (1, 8, 64, 128)


@dataclass(frozen=True)
class LinearLaw:
    """Microseconds of one layer's attention: linear in every direction the profile is linear in."""

    chunk_us: float = 5.0
    chunk_per_token: float = 0.2
    kv_us: float = 0.001
    kv_per_token: float = 1e-5
    decode_us: float = 6.0
    decode_per_sequence: float = 0.1
    decode_per_kv: float = 0.002
    mixed_us: float = 9.0
    mixed_per_sequence: float = 0.15
    mixed_per_kv: float = 0.003
    cross: float = 0.0004

    def __call__(self, chunk: int, before: int, decodes: int, kv: int) -> float:
        own = self.chunk_us + self.chunk_per_token * chunk + (self.kv_us + self.kv_per_token * chunk) * before
        alone = self.decode_us + self.decode_per_sequence * decodes + self.decode_per_kv * decodes * kv
        beside = self.mixed_us + self.mixed_per_sequence * decodes + self.mixed_per_kv * decodes * kv
        if chunk == 0:
            return alone
        return own if decodes == 0 else own + beside + self.cross * decodes * chunk


def batches_of(law: Law) -> dict[tuple[int, int, int, int], float]:
    """Every batch of the grid above, as the law has it."""
    alone = [(0, 0, decodes, kv) for decodes in DECODES for kv in LENGTHS]
    prefills = [(chunk, before, 0, 0) for chunk in CHUNKS for before in BEFORE]
    mixed = [(*prefill[:2], *decode[2:]) for prefill in prefills for decode in alone]
    return {batch: law(*batch) for batch in (*alone, *prefills, *mixed)}


def linear(first: float, each: float, counts: Sequence[int]) -> dict[int, float]:
    return {count: first + each * count for count in counts}


def tables_of(
    law: Law,
    dense: dict[str, tuple[float, float]],
    per_sequence: dict[str, tuple[float, float]],
) -> OperatorTables:
    """Tables of layers that take `first + each · count` microseconds."""
    return OperatorTables(
        attention=batches_of(law),
        dense={name: linear(*line, TOKENS) for name, line in dense.items()},
        per_sequence={name: linear(*line, SEQUENCES) for name, line in per_sequence.items()},
        source="a law",
    )


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in (header, *rows))


def written(tables: OperatorTables, folder: Path, prefix: str = "op", *, packed: bool = False) -> Path:
    """Write the three files; the prefix that `profile fit --tables` takes."""
    attention = [(*batch, time) for batch, time in tables.attention.items()]
    texts = {
        "attention": csv_text(("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"), attention),
        "dense": csv_text(("layer", "tokens", "time_us"), _rows(tables.dense)),
        "per_sequence": csv_text(("layer", "sequences", "time_us"), _rows(tables.per_sequence)),
    }
    for name, text in texts.items():
        if packed:
            (folder / f"{prefix}_{name}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            (folder / f"{prefix}_{name}.csv").write_text(text, encoding="utf-8")
    return folder / prefix


def _rows(layers: dict[str, dict[int, float]]) -> list[tuple[str, int, float]]:
    return [(name, count, time) for name, curve in layers.items() for count, time in curve.items()]


def measured_folder() -> Path:
    """The folder of measured tables and runs; skips where it is absent."""
    root = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
    if not (root / "perf").is_dir():
        pytest.skip("the measured tables are not here")
    return root / "perf"
