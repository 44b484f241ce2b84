"""Text to the word pieces of a BERT vocabulary: clean, split at spaces and punctuation, then longest piece first.

Decides ids only; knows no model. Follows the uncased scheme of Devlin et al. 2019 (appendix A.2): lower case, accents
dropped, every CJK character a word of its own, a word of more than 100 characters unknown. Work is bounded: no more
text is looked at than the wanted number of ids can need.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import InputError

LONGEST_WORD = 100
CHARACTERS_PER_ID = 32
"""Text looked at for each id wanted; English has about five characters a piece."""
_SPECIAL = ("[CLS]", "[SEP]", "[UNK]", "[PAD]")
_CJK = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))


class WordPieces:
    """A vocabulary of pieces; a piece that continues a word begins with `##`."""

    def __init__(self, pieces: list[str]) -> None:
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        absent = [word for word in _SPECIAL if word not in self._ids]
        if absent:
            raise InputError(
                f"the vocabulary has no {', '.join(absent)}", fix="give the vocab.txt that belongs to the model"
            )
        self.pad = self._ids["[PAD]"]
        self._first, self._last, self._unknown = (self._ids[word] for word in _SPECIAL[:3])

    @classmethod
    def read(cls, path: Path) -> WordPieces:
        """One piece a line, as `vocab.txt` holds them."""
        try:
            return cls(path.read_text("utf-8").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the vocabulary cannot be read: {error}", where=str(path)) from error

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, text: str, most: int) -> list[int]:
        """At most `most` ids, the first and last of which mark the text's begin and end."""
        found = [self._first]
        for word in _words(text[: most * CHARACTERS_PER_ID]):
            found.extend(self._pieces(word))
            if len(found) >= most - 1:
                break
        return [*found[: most - 1], self._last]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return [self._unknown]
            found.append(number)
            start = end
        return found


def _words(text: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFD", text.lower())
    word: list[str] = []
    for character in plain:
        kind = unicodedata.category(character)
        is_space = character in " \t\n\r" or kind == "Zs"
        if kind == "Mn" or (kind[0] == "C" and not is_space):
            continue
        is_alone = not is_space and (_is_punctuation(character, kind) or _is_cjk(character))
        if not (is_space or is_alone):
            word.append(character)
            continue
        if word:
            yield "".join(word)
            word = []
        if is_alone:
            yield character
    if word:
        yield "".join(word)


def _is_punctuation(character: str, kind: str) -> bool:
    return kind[0] == "P" or (character.isascii() and character.isprintable() and not character.isalnum())


def _is_cjk(character: str) -> bool:
    code = ord(character)
    return code >= 0x3400 and any(low <= code <= high for low, high in _CJK)
