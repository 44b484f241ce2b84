"""Plain texts read as bytes mean what they mean when read in full."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridctl.cache.cacheable import CacheRules, bypass_of_text
from gridctl.cache.exact import normalised
from gridctl.gateway.plain import COMMON, LEAST_DIGITS, plain, plain_literal

PIECES = st.sampled_from(
    ["Where is", "  ", "PARIS", "today", "Now", "nowhere", "def ", "::", ":", "DE89370400440532013000", "ab12 cdefgh",
     "ab12cdefghijklmno", "4111 1111 1111 1111", "020-7946-0958", "12", "1234567", "12.5 %", "+44", "a@b.example", "é",
     "\\n", "\"", "{", "->", "```", "\t", "\x7f", "latest news", "it's", "x" * 40]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=8).map(" ".join),
    st.lists(PIECES, max_size=8).map("".join),
    st.text(alphabet=COMMON.decode() + "0123456789", max_size=60),
    st.text(max_size=20),
)
RULES = st.builds(
    CacheRules,
    mode=st.just("exact"),
    allows_personal_data=st.booleans(),
    live_ttl_s=st.sampled_from([0.0, 60.0]),
)


@settings(max_examples=1500, deadline=None)
@given(TEXTS, RULES)
@example("ab12 cdefghijklmno", CacheRules(mode="exact"))
@example("call 0123 456 789", CacheRules(mode="exact"))
@example(" ", CacheRules(mode="exact"))
@example("a" * 8_193, CacheRules(mode="exact"))
def test_what_is_said_of_a_plain_text_is_what_the_cache_says_of_it(text: str, rules: CacheRules) -> None:
    found = plain(text.encode("utf-8", "surrogatepass"), rules)
    if found is not None:
        assert found.decode() == normalised(text)
        assert bypass_of_text(text, rules) is None
    literal = plain_literal(text.encode("utf-8", "surrogatepass"), rules)
    assert literal in (None, text.encode("utf-8", "surrogatepass"))
    assert (literal is None) == (found is None)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (b"Where is Paris?", b"where is paris?"),
        (b"  two   blanks ", b"two blanks"),
        (b"Add 12 and 30.", b"add 12 and 30."),
        (b"what happens today", None),
        (b"my card is 4111 1111 1111 1111", None),
        (b"int main() { return 0; }", None),
        (b"", None),
        ("où".encode(), None),
        (b'say "hi"', None),
    ],
)
def test_most_prompts_are_plain(text: bytes, form: bytes | None) -> None:
    assert plain(text, CacheRules(mode="exact")) == form


def test_fewer_digits_than_any_number_of_somebodys_has_are_passed() -> None:
    digits = "7" * (LEAST_DIGITS - 1)
    assert plain(f"order {digits}".encode(), CacheRules(mode="exact")) == f"order {digits}".encode()
    assert bypass_of_text(f"order {digits}7 9", CacheRules(mode="exact")) == "personal-data"
