"""Prompts: as long as asked, and never alike."""

from __future__ import annotations

from gridctl.profiling.prompts import PromptSource, WordLaw, word_law


def test_the_law_through_two_counts_gives_back_both() -> None:
    law = word_law((16, 33), (256, 345))  # 1.3 tokens a word after 12.2 of the template
    assert law.tokens_of(16) == 33
    assert law.tokens_of(256) == 345
    assert law.words_for(345) == 256


def test_counts_that_fall_with_the_words_are_not_believed() -> None:
    assert word_law((16, 40), (256, 40)) == WordLaw()
    assert word_law((16, 40), (16, 90)) == WordLaw()


def test_a_prompt_shorter_than_the_template_is_one_word() -> None:
    assert WordLaw(fixed=40.0, per_word=1.0).words_for(16) == 1


def test_prompts_differ_from_the_first_word_on() -> None:
    source = PromptSource()
    prompts = [source.prompt(12) for _ in range(200)]
    assert {len(prompt.split()) for prompt in prompts} == {12}
    assert len({prompt.split()[0] for prompt in prompts}) == 200


def test_runs_without_a_seed_differ_and_with_one_do_not() -> None:
    assert PromptSource().prompt(8) != PromptSource().prompt(8)
    assert PromptSource(7).prompt(8) == PromptSource(7).prompt(8)
