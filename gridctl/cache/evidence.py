"""What speaks for and against serving a stored answer: the best group for a prompt and its features.

Decides the candidate, not the verdict. The candidate is the group with the largest share of the neighbours' weight,
exp(25 · cosine); a group with several near prompts can beat the one that holds the nearest. Features compare it with
the best other group, by their nearest prompts and by the middles of all their prompts (as Rocchio's classifier, 1971),
with its own record, and word by word with its nearest prompts. All are finite for any input.
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
_CLIP = 20.0

FEATURES = (
    "cosine", "margin", "near_share", "wide_share", "near_log_odds", "in_top_five", "group_size", "group_right_share",
    "group_labels", "kept_share", "has_no_leftover", "best_kept_share", "any_without_leftover", "kept_share_margin",
    "leftover_asked", "leftover_stored", "least_leftover_asked", "gram_overlap", "best_gram_overlap", "details_differ",
    "polarity_differs", "code_differs", "words", "groups_near", "learnt_weight", "learnt_heaviest",
    "learnt_unseen", "best_learnt_weight", "best_learnt_heaviest", "best_learnt_unseen", "learnt_margin",
    "centre_cosine", "centre_margin", "centre_margin_by_size",
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
        wide[best],
        math.log(share / (1.0 - share)),
        sum(one.group == best for one in near[:5]),
        math.log1p(len(group.aliases)),
        (group.right + 0.5) / (group.labels + 1.0),
        min(group.labels, 30) / 30.0,
        *_wording(asked, own_read, others_read, groups.rarity),
        len(shares),
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
    has, the more that says."""
    nearest = {best: next(one.cosine for one in near if one.group == best)}
    for one in near:
        nearest.setdefault(one.group, one.cosine)
        if len(nearest) == CENTRES_COMPARED:
            break
    own = rival = 0.0
    for number, cosine in nearest.items():
        found = groups.centre_cosine(number, vector)
        centre = cosine if found is None else found
        if number == best:
            own = centre
        else:
            rival = max(rival, centre)
    margin = own - rival
    return [own, margin, margin * math.log1p(len(groups.group(best).aliases))]


def _details_differ(pair: Comparison) -> bool:
    return pair.numbers_differ or pair.dates_differ or pair.units_differ
