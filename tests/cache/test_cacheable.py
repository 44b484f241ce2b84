"""What never gets into the cache, and that the check is quick for any prompt."""

from __future__ import annotations

import time

import msgspec
import pytest

from gridctl.cache.cacheable import CacheRules, Wanted, bypass_of, has_personal_data, refusal_of

RULES = CacheRules(mode="semantic")
PLAIN = Wanted(text="how do i bake bread", temperature=0.0)


def test_a_plain_question_may_be_cached() -> None:
    assert bypass_of(PLAIN, RULES) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"says_no_store": True}, "no-store"),
        ({"has_tools": True}, "tools"),
        ({"has_media": True}, "media"),
        ({"has_untagged_documents": True}, "untagged-documents"),
        ({"answers": 2}, "several-answers"),
        ({"temperature": 0.31}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"text": None}, "not-text"),
        ({"text": " \n"}, "empty"),
        ({"text": "a" * 8193}, "too-long"),
        ({"text": "ring the bell\x07"}, "non-printing"),
        ({"text": "in\u200bvisible"}, "non-printing"),
        ({"text": "a lone \ud800 half"}, "non-printing"),
        ({"text": "mail ann.lee@example.org the list"}, "personal-data"),
        ({"text": "my card 4111 1111 1111 1111 is lost"}, "personal-data"),
        ({"text": "call +49 30 1234567 please"}, "personal-data"),
        ({"text": "is my iban DE89 3704 0044 0532 0130 00 right"}, "personal-data"),
        ({"text": "what is the weather"}, "changes-by-itself"),
    ],
)
def test_what_bypasses_the_cache_and_why(change: dict[str, object], reason: str) -> None:
    assert bypass_of(msgspec.structs.replace(PLAIN, **change), RULES) == reason


def test_a_workload_without_a_cache_bypasses_everything() -> None:
    assert bypass_of(PLAIN, CacheRules()) == "off"


def test_live_answers_are_cached_only_with_a_time_to_live_of_their_own() -> None:
    asked = msgspec.structs.replace(PLAIN, text="news of today")
    assert bypass_of(asked, CacheRules(mode="exact", live_ttl_s=30.0)) is None


@pytest.mark.parametrize("text", ["convert 1500 euro", "version 3.11.7", "room 101", "pi is 3.14159265358979"])
def test_ordinary_numbers_are_not_personal(text: str) -> None:
    assert not has_personal_data(text)


@pytest.mark.parametrize(
    ("finish", "status", "answer", "calls_tool", "reason"),
    [
        ("stop", 200, b"yes", False, None),
        ("length", 200, b"yes", False, "incomplete"),
        (None, 200, b"yes", False, "incomplete"),
        ("content_filter", 200, b"no", False, "refused"),
        ("stop", 200, b" \n", False, "empty-answer"),
        ("stop", 206, b"yes", False, "failed"),
        ("stop", 200, b"yes", True, "tools"),
        ("stop", 200, b"y" * ((1 << 20) + 1), False, "too-long"),
    ],
)
def test_only_complete_answers_are_stored(
    finish: str | None, status: int, answer: bytes, calls_tool: bool, reason: str | None
) -> None:
    assert refusal_of(finish, status, answer, calls_tool) == reason


def test_a_hundred_megabytes_are_refused_without_being_read() -> None:
    huge = msgspec.structs.replace(PLAIN, text="a1 " * 33_000_000)
    began = time.process_time()
    assert bypass_of(huge, RULES) == "too-long"
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("text", ["@" * 8000, "1 " * 4000, "a@" * 4000, "DE11" + " A" * 3900, "1-" * 4000])
def test_hostile_texts_cost_little(text: str) -> None:
    began = time.process_time()
    bypass_of(msgspec.structs.replace(PLAIN, text=text), RULES)
    assert time.process_time() - began < 0.5
