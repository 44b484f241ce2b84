"""What evidence looks like where only answer keys are known: features of real prompts, measured once, drawn again.

Decides which measured rows stand for a request. A table holds, for prompts of a real stream in the order they came,
the evidence each had, whether the candidate was wrong, whether the right answer was among those judged, how many
prompts of its key were stored and how many in all. A request is given evidence of its own class: its key is stored or
not, by about as many prompts, among about as many others. The tables were measured while the rule itself decided, at
three error rates, because what is served is not stored, and so the stored prompts are the hard ones.

A row would be drawn many times, and a rule that learns would know it by heart. So two rows x and y of one class turn
into m + cos t · (x − m) + sin t · (y − m), m being the class's mean and t even in [0, π/8]: with x and y independent
that has the class's mean and covariance, whatever t is, and is never the same twice. A larger t blurs the few prompts
that look right and are not, which a rule earns its hits by telling; so does a table of few rows, from which it learns
them by heart. Beyond the largest store that was measured its last `BEYOND` rows stand for all larger ones.

Three tables ship for each embedder, measured by `tests/bench/measure_population.py`: `questions`, where many longish
prompts want one answer (of banking77, PolyAI, CC BY 4.0: Casanueva et al. 2020), `assistant`, where many short ones do
(of clinc150, CC BY 3.0: Larson et al. 2019), and `commands`, where slots make most answers rare (of
NLU-Evaluation-Data, CC BY 4.0: Liu et al. 2019). Each joins several orders of popularity, because which of a subject's
answers are popular moves hits by some points. They hold numbers alone, in 32 steps a feature, and no text. A table
knows its own subject (`OWN_SUBJECT`), and other subjects badly (`OTHER_SUBJECT`): for those a sample of their own
prompts is measured (`measuring`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.evidence import FEATURES
from gridctl.errors import InputError

Kind = Literal["questions", "assistant", "commands"]
KINDS: tuple[Kind, ...] = ("questions", "assistant", "commands")
QUESTIONS_FROM = 8
"""Requests for one answer from which they are taken to be like questions to a help desk."""
LONG_FROM = 9.5
"""Tokens of a prompt, on the mean of an answer's, from which many of them are questions rather than commands that are
often given. Of 9,000 requests to a bank and a home as many are then on the one wrong side as on the other, 209 and 242;
midway between their prompts (15.0 and 9.3 tokens) 771 of the bank's were."""
RARELY_ALONE = 0.05
"""No request of a workload is a command where at most this share of them is the only one for its answer: in a short
trace few answers are asked for often, but then nearly all of them more than once."""
QUESTIONS_FROM_TOKENS = 12.3
"""Tokens of a prompt, on the mean of such a workload, from which they are questions to a help desk rather than short
ones to an assistant: midway, by ratio, between the tables' own prompts (14.6 and 10.4)."""
WINDOW = 30
"""Rows of like store size among which one is drawn."""
BEYOND = 150
"""Last rows that stand for larger stores than were measured: all requests to come draw from them."""
MOST_TURN = math.pi / 8
"""How far a drawn row is turned towards another of its class, at most."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the share of hits forecast may be from that of the texts: `too_many` of them, and `too_few`."""

    too_many: float
    too_few: float


OWN_SUBJECT = Reach(0.07, 0.07)
"""Of a workload of the tables' own subjects, at error rates of 1, 2 and 5 %, means of a few draws: 3,000 requests to
the bank 1 point too few to 4 too many, 6,000 of banking77 4 too few, of clinc150 3 too few to 1 too many, and 9,000 to
bank and home, as one workload or two, within 3. What is beyond is for the spread of draws and orders."""
OTHER_SUBJECT = Reach(0.28, 0.17)
"""Of a workload that none was measured on, by the table that comes nearest: the bank's, and other help desk questions,
by `assistant` 8 to 27 points too many, 6,000 of clinc150 by `questions` 6 to 16 too few. A help desk by `commands`,
which `kinds_of` would not choose, had up to 40 too many."""
STEPS = 31
_MOST_ALIAS_BIN = 6


@dataclass(frozen=True, slots=True)
class Drawn:
    """Evidence that stands for a request: the features, and what is true of the candidate."""

    features: NDArray[np.float64]
    is_wrong: bool
    is_judged: bool


class Population:
    """Measured rows by class. Columns of shape `(n,)`, features `(n, len(FEATURES))`."""

    def __init__(
        self,
        features: NDArray[np.float32],
        is_wrong: NDArray[np.bool_],
        is_judged: NDArray[np.bool_],
        aliases: NDArray[np.int32],
        stored: NDArray[np.int32],
        rate: NDArray[np.float32],
    ) -> None:
        if features.ndim != 2 or features.shape[1] != len(FEATURES) or not len(features):
            raise InputError(
                f"measured evidence has shape {features.shape}, expected rows of {len(FEATURES)} features",
                fix="measure it again: python tests/bench/measure_population.py",
            )
        self._features, self._is_wrong, self._is_judged = features, is_wrong, is_judged
        bins = np.array([alias_bin(int(count)) for count in aliases])
        self._rates = sorted(set(rate.tolist()))
        self._rows: dict[float, dict[int, NDArray[np.int64]]] = {}
        self._stored = stored
        for one in self._rates:
            parts = self._rows[one] = {}
            for which in range(_MOST_ALIAS_BIN + 1):
                rows = np.flatnonzero((bins == which) & (rate == np.float32(one)))
                parts[which] = rows[np.argsort(stored[rows], kind="stable")]

    def __len__(self) -> int:
        return len(self._features)

    def draw(self, aliases: int, stored: int, error_rate: float, coin: random.Random) -> Drawn:
        """A row for a request whose key has so many stored prompts, 0 for none, among `stored` in all, measured at the
        error rate nearest by ratio."""
        parts = self._rows[min(self._rates, key=lambda one: abs(math.log(one / error_rate)))]
        which = alias_bin(aliases)
        while not len(parts[which]):  # a class that the measured stream never had: the nearest one that it had
            which = which - 1 if which > 1 else _fullest(parts, is_stored=aliases > 0)
        rows = parts[which]
        middle = int(np.searchsorted(self._stored[rows], stored))
        first = max(0, min(middle - WINDOW // 2, len(rows) - WINDOW))
        near = rows[first : first + WINDOW] if middle < len(rows) else rows[-BEYOND:]
        row = int(near[coin.randrange(len(near))])
        is_wrong, is_judged = self._is_wrong[row], self._is_judged[row]
        alike = near[(self._is_wrong[near] == is_wrong) & (self._is_judged[near] == is_judged)]
        other, turn = int(alike[coin.randrange(len(alike))]), MOST_TURN * coin.random()
        mean = self._features[alike].mean(0, dtype=np.float64)
        turned = math.cos(turn) * (self._features[row] - mean) + math.sin(turn) * (self._features[other] - mean)
        return Drawn(mean + turned, bool(is_wrong), bool(is_judged))


def alias_bin(aliases: int) -> int:
    """0 for none, then 1, 2–3, 4–7, … stored prompts."""
    return min(_MOST_ALIAS_BIN, aliases.bit_length())


def _fullest(rows: dict[int, NDArray[np.int64]], *, is_stored: bool) -> int:
    found = [one for one in rows if (one > 0) == is_stored and len(rows[one])]
    if not found:
        return max(rows, key=lambda one: len(rows[one]))
    return max(found, key=lambda one: len(rows[one]))


def like(requests_of_key: int) -> Kind:
    """Which table stands for a key that so many requests of the trace want."""
    return "questions" if requests_of_key >= QUESTIONS_FROM else "commands"


def kinds_of(keys: Sequence[int], workloads: Sequence[Hashable], lengths: Sequence[int]) -> dict[int, Kind]:
    """Which table stands for each key of a trace's requests, given in order with their workloads and prompt lengths in
    tokens: `questions` or `assistant`, by its mean length, for all of a workload whose answers are hardly ever asked
    for once; elsewhere `questions` for an answer that many long prompts ask for, and `commands` for the others."""
    wanted, first = Counter(keys), dict(zip(reversed(keys), reversed(workloads), strict=True))
    requests, alone = Counter(workloads), Counter(first[key] for key, count in wanted.items() if count == 1)
    tokens, tokens_of = Counter[int](), Counter[Hashable]()
    for key, workload, length in zip(keys, workloads, lengths, strict=True):
        tokens[key] += length
        tokens_of[workload] += length
    whole: dict[Hashable, Kind] = {
        name: "questions" if tokens_of[name] >= QUESTIONS_FROM_TOKENS * count else "assistant"
        for name, count in requests.items()
        if alone[name] <= RARELY_ALONE * count
    }

    def of_key(key: int, count: int) -> Kind:
        is_question = like(count) == "questions" and tokens[key] >= LONG_FROM * count
        return whole.get(first[key]) or ("questions" if is_question else "commands")

    return {key: of_key(key, count) for key, count in wanted.items()}


def load_population(kind: Kind, embedder: str) -> Population:
    """The shipped table of an embedder, "hashed" or "minilm" (any sentence transformer is taken to be like it)."""
    return _loaded(f"{kind}-{'hashed' if embedder == 'hashed' else 'minilm'}.npz")


@lru_cache(maxsize=2 * len(KINDS))
def _loaded(name: str) -> Population:
    """A table, read once: every draw of a forecast takes it, and none changes it."""
    with resources.files("gridctl.cache").joinpath("measured", name).open("rb") as file:
        columns = np.load(file, allow_pickle=False)
        return Population(
            columns["lowest"] + columns["features"].T * columns["step"],
            columns["is_wrong"],
            columns["is_judged"],
            columns["aliases"].astype(np.int32),
            columns["stored"].astype(np.int32),
            columns["rate"],
        )


def quantised(features: NDArray[np.floating]) -> dict[str, NDArray[np.uint8] | NDArray[np.float32]]:
    """Features of shape (rows, features) as a table's file holds them, feature by feature: `STEPS` even steps between
    the lowest and the highest value, so that value = lowest + number · step."""
    lowest = features.min(0).astype(np.float32)
    step = np.maximum((features.max(0) - lowest) / STEPS, 1e-9).astype(np.float32)
    return {
        "features": np.ascontiguousarray(np.rint((features - lowest) / step).clip(0, STEPS).astype(np.uint8).T),
        "lowest": lowest,
        "step": step,
    }


class Repeats:
    """Which requests repeat an earlier one word for word, estimated from keys and lengths alone.

    Pairs of requests of one key whose lengths differ by d ≠ 0 are different texts; there are N₁ and N₂ of them for d =
    1
    and 2 (means of both signs). Different texts of equal length are then about N₁ · √(N₁ / N₂): between a peak that
    falls
    off like e^(−d) and one like e^(−d²). What there is more of pairs of equal length are repeats; each is one with
    probability `share`.
    """

    def __init__(self, keys: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        counts: dict[int, Counter[int]] = {}
        pairs: Counter[int] = Counter()
        for key, length in zip(keys.tolist(), lengths.tolist(), strict=True):
            own = counts.setdefault(key, Counter())
            for apart in range(-2, 3):
                pairs[apart] += own[length + apart]
            own[length] += 1
        near, far = 0.5 * (pairs[1] + pairs[-1]), 0.5 * (pairs[2] + pairs[-2])
        by_chance = near * math.sqrt(near / max(far, 1.0))
        self.share = max(0.0, 1.0 - by_chance / pairs[0]) if pairs[0] else 0.0

    def chance(self, earlier: int) -> float:
        """That a request repeats one of so many earlier ones of its key and length."""
        return 1.0 - (1.0 - self.share) ** earlier


def expected_error(wrong: float, of: int) -> tuple[float, float]:
    """The interval of a share at 95 % (Wilson 1927), (0, 1) of none."""
    if of == 0:
        return 0.0, 1.0
    z = 1.959964
    share = wrong / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - reach), min(1.0, middle + reach)
