"""What speaks for and against serving a stored answer: the best group for a prompt and its features.

Decides the candidate, not the verdict. The candidate is the group with the largest share of the neighbours' weight,
exp(25 · cosine); a group with several near prompts can beat the one that holds the nearest. Features compare it with
the best other group, by their nearest prompts and by the middles of all their prompts (as Rocchio's classifier, 1971),
in the directions that tell the partition's answers apart (`kinship`) once there are prompts enough to know them; with
its own record; and word by word with its nearest prompts. All are finite for any input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.groups import AnswerGroups, Neighbour
from gridctl.cache.guards import Comparison, Rarity, Reading, compare, read
from gridctl.cache.leftovers import MOST_SUM, LeftoverRecord

NEAR, WIDE = 25.0, 10.0
"""Sharpness of the neighbours' weights; the wide one sees how crowded the neighbourhood is."""
COMPARED, RIVALS_COMPARED = 4, 2
JUDGED_GROUPS = 5
CENTRES_COMPARED = 6
"""Groups whose middles are compared, the nearest ones."""
MOST_ODDS = 100.0
_CLIP = 20.0

FEATURES = (
    "cosine", "margin", "near_share", "near_log_odds", "group_size", "group_right_share", "group_labels",
    "kept_share", "has_no_leftover", "best_kept_share", "any_without_leftover", "kept_share_margin", "leftover_asked",
    "leftover_stored", "least_leftover_asked", "gram_overlap", "best_gram_overlap", "details_differ",
    "polarity_differs", "code_differs", "words", "learnt_weight", "learnt_heaviest", "learnt_unseen",
    "best_learnt_weight", "best_learnt_heaviest", "best_learnt_unseen", "learnt_margin", "centre_cosine",
    "centre_margin", "centre_margin_by_size", "kin_log_odds", "kin_margin", "lone_share",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """The candidate `group`, its nearest `entry`, `cosine`, the `features` in the order of FEATURES, and the groups to
    judge a fresh answer against, best first."""

    group: int
    entry: int
    cosine: float
    features: NDArray[np.float64]
    judged: tuple[int, ...]


def weigh(text: str, vector: NDArray[np.float32], groups: AnswerGroups) -> Evidence | None:
    """Evidence for a prompt, None while nothing is stored."""
    near = groups.neighbours(vector)
    if not near:
        return None
    shares, wide = _shares(near, NEAR), _shares(near, WIDE)
    ranked = sorted(shares, key=lambda number: (-(shares[number] + wide[number]), number))
    best = ranked[0]
    own = [one for one in near if one.group == best]
    others = [one for one in near if one.group != best]
    group = groups.group(best)
    share = min(max(shares[best], 1e-4), 1.0 - 1e-4)
    asked = read(text)
    own_read = [groups.reading(one.entry) for one in own[:COMPARED]]
    others_read = [groups.reading(one.entry) for one in others[:RIVALS_COMPARED]]
    values = [
        own[0].cosine,
        own[0].cosine - (others[0].cosine if others else 0.0),
        shares[best],
        math.log(share / (1.0 - share)),
        math.log1p(len(group.aliases)),
        (group.right + 0.5) / (group.labels + 1.0),
        min(group.labels, 30) / 30.0,
        *_wording(asked, own_read, others_read, groups.rarity),
        *_learnt(asked, own_read, others_read, groups.leftovers),
        *_centres(vector, near, best, groups),
    ]
    return Evidence(best, own[0].entry, own[0].cosine, np.array(values, np.float64), tuple(ranked[:JUDGED_GROUPS]))


def _shares(near: list[Neighbour], sharpness: float) -> dict[int, float]:
    top = near[0].cosine
    found: dict[int, float] = {}
    for one in near:
        found[one.group] = found.get(one.group, 0.0) + math.exp(sharpness * (one.cosine - top))
    total = sum(found.values())
    return {number: weight / total for number, weight in found.items()}


def _wording(asked: Reading, own: list[Reading], others: list[Reading], rarity: Rarity) -> list[float]:
    measured = [compare(asked, one, rarity) for one in own]
    rivals = [compare(asked, one, rarity).kept_share for one in others]
    first = measured[0]
    kept = max(one.kept_share for one in measured)
    return [
        first.kept_share,
        first.has_no_leftover,
        kept,
        any(one.has_no_leftover for one in measured),
        kept - max(rivals, default=0.0),
        min(first.leftover_a, _CLIP),
        min(first.leftover_b, _CLIP),
        min(min(one.leftover_a for one in measured), _CLIP),
        first.gram_overlap,
        max(one.gram_overlap for one in measured),
        all(_details_differ(one) for one in measured),
        first.polarity_differs,
        first.code_differs,
        min(asked.word_count, 100),
    ]


def _learnt(asked: Reading, own: list[Reading], others: list[Reading], record: LeftoverRecord) -> list[float]:
    measured = [record.measure(asked, one) for one in own]
    least = min(measured)
    rival = min((record.measure(asked, one).weight for one in others), default=MOST_SUM)
    return [*measured[0], *least, least.weight - rival]


def _centres(vector: NDArray[np.float32], near: list[Neighbour], best: int, groups: AnswerGroups) -> list[float]:
    """How near the middle of the best group is, and how much nearer than that of any other: the more prompts a group
    has, the more that says. Then the log-odds of the two-covariance model, and how much they exceed those of any other
    group and of an answer that was never seen; 0 while there are too few prompts for it."""
    numbers = [best]
    for one in near:
        if one.group not in numbers:
            numbers.append(one.group)
            if len(numbers) == CENTRES_COMPARED:
                break
    sizes = [len(groups.group(number).aliases) for number in numbers]
    kinship = groups.kinship()
    odds = margin_of_odds = 0.0
    if kinship is None:
        nearest = {one.group: one.cosine for one in reversed(near)}
        found = [groups.centre_cosine(number, vector) for number in numbers]
        cosines = [nearest[one] if known is None else known for one, known in zip(numbers, found, strict=True)]
    else:
        all_odds, all_cosines = kinship.compare(vector, np.stack([groups.centre(one) for one in numbers]), sizes)
        cosines = all_cosines.tolist()
        odds = float(all_odds[0])
        margin_of_odds = odds - max([0.0, *all_odds[1:].tolist()])
    margin = cosines[0] - max([0.0, *cosines[1:]])
    return [
        cosines[0],
        margin,
        margin * math.log1p(sizes[0]),
        _root(odds),
        _root(margin_of_odds),
        groups.lone_share,
    ]


def _root(odds: float) -> float:
    """Its square root, with its sign, within ±10: log-odds of hundreds are no surer than those of fifty."""
    return math.copysign(math.sqrt(min(abs(odds), MOST_ODDS)), odds) if math.isfinite(odds) else 0.0


def _details_differ(pair: Comparison) -> bool:
    return pair.numbers_differ or pair.dates_differ or pair.units_differ
