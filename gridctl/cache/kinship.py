"""How prompts of one answer scatter, learnt from the stored ones, and what that says of a new prompt.

Decides nothing: it measures; `evidence` turns the measure into features. A prompt's vector is taken to be its answer's
place plus a scatter that is alike for all answers (the two-covariance model: Ioffe 2006, Brümmer and de Villiers 2010).
Directions are chosen in which the scatter is 1 and the answers' places lie `between` apart (their variance b). Against
an answer that was never seen, a group of n prompts with middle ū has for a prompt x, summed over the directions,

    ½ ln((1 + b) / v) − ½ (x − μ)² / v + ½ x² / (1 + b),   μ = ū · n b / (1 + n b),   v = 1 + b / (1 + n b)

log-odds: words that speakers vary anyway cost little, the few directions that tell answers apart count. The scatter is
pulled towards an even one as if by one pair of prompts for each dimension (Friedman 1989). Only vectors of one
partition are ever looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FIRST_PAIRS = 64
"""Prompts beyond the first of their answers that are needed to learn a scatter at all."""
GROWTH = 1.25
"""The scatter is learnt anew when there are so many times the pairs; at 384 dimensions that takes 20 to 50 ms."""
MOST_LOOKED_AT = 2_048
"""Latest prompts that are looked at."""
MOST_DIRECTIONS = 128
_LEAST_SCATTER, _LEAST_BETWEEN = 1e-4, 1e-3


class Kinship(NamedTuple):
    """`directions` of shape (dimension, k), `between` of shape (k,), `middle` of all prompts."""

    directions: Floats
    between: Floats
    middle: Floats

    def compare(self, vector: Floats, centres: Floats, counts: list[int]) -> tuple[Floats, Floats]:
        """Log-odds of groups with these centres, shape (g, dimension), and counts of prompts; and the cosines with the
        centres in the learnt directions. Both of shape (g,)."""
        places = (np.concatenate([vector[None], centres]) - self.middle) @ self.directions
        asked, stored = places[0], places[1:]
        weight = np.array(counts, np.float32)[:, None] * self.between
        shrink = weight / (1.0 + weight)
        spread = 1.0 + self.between / (1.0 + weight)
        apart = (asked - shrink * stored) ** 2 / spread - asked**2 / (1.0 + self.between)
        log_odds = 0.5 * (np.log((1.0 + self.between) / spread) - apart).sum(1)
        lengths = np.sqrt((stored**2).sum(1) * (asked**2).sum()) + 1e-9
        return log_odds, stored @ asked / lengths


def kinship_of(vectors: Floats, centres: Floats, counts: NDArray[np.float32]) -> Kinship | None:
    """Learn from prompts: their vectors, the centres of their groups, both of shape (n, dimension), and how many
    prompts each group has. None where too few share a group. Cost O(n d² + d³)."""
    dimension, is_paired = vectors.shape[1], counts > 1
    pairs = int(is_paired.sum())
    if pairs < FIRST_PAIRS // 2:
        return None
    sizes = counts[is_paired, None]
    apart = (vectors - centres)[is_paired] * np.sqrt(sizes / (sizes - 1.0))
    scatter = (apart.T @ apart).astype(np.float64)
    even = max(float(np.trace(scatter)) / (pairs * dimension), _LEAST_SCATTER)
    scatter = (scatter + dimension * even * np.eye(dimension)) / (pairs + dimension)
    middle = vectors.mean(0)
    about = vectors - middle
    inverse = np.linalg.inv(np.linalg.cholesky(scatter))
    whole, turn = np.linalg.eigh(inverse @ (about.T @ about / len(vectors)) @ inverse.T)
    first = slice(-min(MOST_DIRECTIONS, dimension), None)
    directions = (inverse.T @ turn)[:, first].astype(np.float32)
    between = np.maximum(whole[first] - 1.0, _LEAST_BETWEEN).astype(np.float32)
    return Kinship(directions, between, middle)
