"""Words: how the mock engine reads text as tokens, and the text it answers with.

A token is a word; a word longer than any in common use counts a token for every four characters, so that a body
without spaces is not one token. Answers are words drawn from a seed, so the same prompt is answered alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LONGEST_WORD = 24
PIECE = 4

_COMMON = """a about all an and any are as at be been but by can come could day did do each edge even few find first
for from get give good grid had has have her him his how if in into is it its just know last less like long look made
make many may more most much near new no not now of on one only or other our out over own"""
ANSWER_WORDS = tuple(_COMMON.split())
"""What answers are made of: 80 common words."""


def tokens_of(text: str) -> list[str]:
    """The tokens of a text.

    >>> tokens_of("the edge pays")
    ['the', 'edge', 'pays']
    >>> len(tokens_of("x" * 40))
    10
    """
    words = text.split()
    if len(text) <= LONGEST_WORD or max(map(len, words), default=0) <= LONGEST_WORD:
        return words
    found: list[str] = []
    for word in words:
        if len(word) <= LONGEST_WORD:
            found.append(word)
        else:
            found += [word[at : at + PIECE] for at in range(0, len(word), PIECE)]
    return found


def chained_blocks(tokens: Sequence[object], block: int) -> list[int]:
    """A hash for every whole block of `block` tokens, each of the block and everything before it. They mean nothing
    in another process."""
    before = 0
    hashes = []
    for start in range(0, len(tokens) - block + 1, block):
        before = hash((before, *tokens[start : start + block]))
        hashes.append(before)
    return hashes


def answer_words(seed: int, count: int) -> list[str]:
    """`count` words that follow from `seed`; all but the first begin with a space."""
    drawn = hashlib.shake_128(seed.to_bytes(8, "big", signed=True)).digest(count)
    words = [" " + ANSWER_WORDS[number % len(ANSWER_WORDS)] for number in drawn]
    if words:
        words[0] = words[0][1:]
    return words


def drawn_length(seed: int, mean: int) -> int:
    """An answer's length where nobody asked for one: evenly between half and one and a half times the mean."""
    return max(1, mean // 2 + seed % (mean + 1))


def cut_at_stop(words: list[str], stops: Sequence[str]) -> tuple[list[str], bool]:
    """The words up to the first stop text, the last one shortened, and whether there was one. Stop texts are left out
    of an answer, as OpenAI documents; the token that completes one is made all the same."""
    text = "".join(words)
    found = [(place, stop) for stop in stops if stop and (place := text.find(stop)) >= 0]
    if not found:
        return words, False
    place, stop = min(found)
    kept: list[str] = []
    length = 0
    for word in words:
        kept.append(word[: max(0, place - length)])
        length += len(word)
        if length >= place + len(stop):
            break
    return kept, True
