"""Same or different answers, by hand; a doubt is a difference."""

from __future__ import annotations

import numpy as np
import pytest

from gridctl.answers.judging import is_same, text_of


def all_alike(text: str) -> np.ndarray:
    """An embedder that cannot tell anything apart: what is left is the guards' work."""
    return np.array([1.0, 0.0], np.float32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"role":"assistant","content":"Paris."}', "Paris."),
        (b'{"message":{"content":"Paris."},"index":0}', "Paris."),
        (b'{"text":"Paris.","index":0}', "Paris."),
        (b'"Paris."', "Paris."),
        (b'{"b":1,"a":2}', '{"a":2,"b":1}'),
        (b"\xff\xfe no JSON", "�� no JSON"),
    ],
)
def test_the_words_of_an_answer(content: bytes, words: str) -> None:
    assert text_of(content) == words


@pytest.mark.parametrize(
    ("a", "b", "judge", "same"),
    [
        ("Paris.", "paris", "text", True),
        ("  The  light is on! ", "the light is on", "text", True),
        ("The light is on.", "The lamp is on.", "text", False),
        ("You can reset it in the settings.", "It can be reset in the settings.", "meaning", True),
        ("It costs 5 euros.", "It costs 6 euros.", "meaning", False),
        ("It costs 5 euros.", "It costs 5 dollars.", "meaning", False),
        ("Come on Monday.", "Come on Tuesday.", "meaning", False),
        ("You can return it.", "You cannot return it.", "meaning", False),
        ("You can do that.", "You can never do that.", "meaning", False),
        ("Call `a.b(1)` then.", "Call `a.c(1) == 2` then.", "meaning", False),
        ("The capital is Paris.", "The capital is Rome.", "meaning", False),
        ("x" * 5000 + " one", "x" * 5000 + " two", "meaning", False),
    ],
)
def test_two_answers(a: str, b: str, judge: str, same: bool) -> None:
    assert is_same(judge, a, b, all_alike) is same
    assert is_same(judge, b, a, all_alike) is same


def test_without_vectors_only_equal_words_are_the_same() -> None:
    assert not is_same("meaning", "You can reset it.", "It can be reset.", lambda text: None)
    assert is_same("meaning", "You can reset it.", "you can reset it", lambda text: None)


def test_vectors_that_are_far_apart_are_a_difference() -> None:
    vectors = {"a thing": np.array([1.0, 0.0], np.float32), "some thing": np.array([0.8, 0.6], np.float32)}
    assert not is_same("meaning", "a thing", "some thing", vectors.get)
