"""Prompts no cache can know: random words, so that every prompt differs from all others from its first token on.

Decides the text; how many tokens a word makes is learnt from the engine's own counts, because every tokenizer differs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_VOCABULARY = """
amber anchor apple arrow autumn basket beacon blossom bottle bridge bronze butter camera candle canyon carbon castle
cedar circle cloud copper coral cotton crystal dancer desert dragon eagle engine fabric falcon feather forest garden
ginger glacier golden hammer harbor island jacket jungle kitchen ladder lemon lantern magnet maple marble meadow mirror
monkey mountain needle ocean orange oyster palace pepper pillow planet pocket rabbit ribbon river rocket saddle salmon
school shadow silver spider spring stable summer sunset temple thunder timber tunnel valley velvet violet walnut window
winter wonder yellow zebra
"""
_WORDS = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class WordLaw:
    """Prompt tokens = `fixed` (template, markers) + `per_word` × words."""

    fixed: float = 0.0
    per_word: float = 1.3

    def words_for(self, tokens: int) -> int:
        """Words that make about `tokens` prompt tokens."""
        return max(1, round((tokens - self.fixed) / self.per_word))

    def tokens_of(self, words: int) -> int:
        """Tokens that `words` make."""
        return max(1, round(self.fixed + self.per_word * words))


def word_law(first: tuple[int, int], second: tuple[int, int]) -> WordLaw:
    """The law through two observed `(words, prompt tokens)`; the default one when they contradict any."""
    (words_a, tokens_a), (words_b, tokens_b) = first, second
    if words_a == words_b or (tokens_b - tokens_a) / (words_b - words_a) < 0.25:
        return WordLaw()
    per_word = (tokens_b - tokens_a) / (words_b - words_a)
    return WordLaw(max(0.0, tokens_a - per_word * words_a), per_word)


class PromptSource:
    """Random prompts; without a seed, others at every run, since an engine's prefix cache outlives a run."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)

    def prompt(self, words: int) -> str:
        """`words` words; the first is a number of its own."""
        number = str(self._random.randrange(10**8, 10**9))
        return " ".join([number, *self._random.choices(_WORDS, k=max(0, words - 1))])
