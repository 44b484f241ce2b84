"""Prompts: text for requests of which a trace says only lengths and prefix blocks. Equal blocks get equal text.

A block's words follow from its id and the load's seed, so prompts that share blocks share their beginning byte for
byte, and a prefix cache finds what it would have found. What no block covers follows from the request's number. A load
with another seed has other words throughout: an engine's cache outlives a load, and must not know the next one's
prompts.
Every word has three letters and a space: one token to most tokenizers, four bytes to whoever estimates tokens by bytes.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

import numpy as np

_THREE_LETTERS = """
ace act add age ago aid aim air ale all and ant any ape apt arc are ark arm art ash ask ate awe axe bad bag ban bar bat
bay bed bee beg bet bid big bin bit boa bog bow box boy bud bug bun bus but buy cab can cap car cat cob cod cog cow cry
cub cue cup cut dab dam day den dew did die dig dim dip doe dog dot dry due dug ear eat ebb eel egg ego elf elk elm end
era eve ewe eye fan far fat fax fed fee few fig fin fir fit fix fly foe fog for fox fry fun fur gag gap gas gel gem get
gin gnu got gum gun gut guy gym had ham has hat hay hem hen her hid him hip his hit hog hop hot how hub hue hug hum hut
ice icy ill ink inn ion ivy jam jar jaw jay jet jig job jog joy jug key kid kin kit lab lad lag lap law lay led leg let
lid lie lip lit log lot low mad man map mat may men met mix mob mop mud mug nap net new nod nor not now nut oak oar oat
odd off oil old one opt orb ore our out owl own pad pal pan par pat paw pay pea
pen pet pie pig pin pit ply pod pop pot pub put ram ran rap rat raw ray red rib rid rig rim rip rob rod
"""
WORDS = tuple(_THREE_LETTERS.split())[:256]
"""A word for each value of a byte."""
WORD_BYTES = 4

_TABLE = np.array([word.encode() + b" " for word in WORDS], dtype="S4")
assert len(set(WORDS)) == 256, "a byte chooses a word"

CACHED_BLOCKS = 8192


@lru_cache(maxsize=CACHED_BLOCKS)
def block_text(seed: int, block: int, tokens: int) -> bytes:
    """`tokens` words, each with a space behind it, that follow from the block's id."""
    return _words(b"block %d %d" % (seed, block), tokens)


def _words(seed: bytes, tokens: int) -> bytes:
    drawn = np.frombuffer(hashlib.shake_128(seed).digest(tokens), np.uint8)
    return _TABLE[drawn].tobytes()


def prompt_text(number: int, seed: int, tokens: int, blocks: list[int], block_tokens: int) -> bytes:
    """A prompt of `tokens` words: those of its `blocks` of `block_tokens` each, the last perhaps in part, then words of
    its own. ASCII letters and spaces, so it stands in JSON as it is."""
    parts = []
    left = tokens
    for block in blocks:
        if left <= 0:
            break
        # The text of a partial block is the beginning of the whole one's.
        parts.append(block_text(seed, block, block_tokens)[: WORD_BYTES * left])
        left -= block_tokens
    if left > 0:
        parts.append(_words(b"request %d %d" % (seed, number), left))
    return b"".join(parts)[:-1]


def json_text(prompt: str) -> bytes:
    """A trace's own prompt, as it stands between quotes in JSON."""
    return json.dumps(prompt, ensure_ascii=False).encode("utf-8", "replace")[1:-1]
