"""Which requests ask the same, and which do not: the partition and the exact key of a request as it came."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from cache_parts import SECRET, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.broker.ask import Principal
from gridctl.broker.plan import Backend, Plan
from gridctl.cache.exact import exact_key, normalised
from gridctl.cache.partition import Partition, canonical
from gridctl.gateway.questions import Questions
from gridctl.gateway.terms import Understood, terms_of, versions_of
from gridctl.resources import Metadata, Model, ModelSpec
from gridctl.resources.model import Architecture, Variant


def ask(
    tenant: str = "a", jurisdiction: str = "EU", endpoint: str = "chat", model: str = "tiny", country: str = "FR",
    variant: str | None = None, key: str = "k",
) -> Any:  # fmt: skip
    group = SimpleNamespace(
        meant=SimpleNamespace(model=model, variant=variant),
        where=SimpleNamespace(origin=SimpleNamespace(country=country)),
    )
    return SimpleNamespace(
        tenant=tenant, jurisdiction=jurisdiction, origin=f"{jurisdiction}/{country}", endpoint=endpoint, model=model,
        group=group, request_id="r",
        prompt_tokens=1, principal=Principal(key, "client", tenant),
    )  # fmt: skip


def question_of(
    asked: Any, body: dict[str, Any], headers: dict[bytes, bytes] | None = None, **policy: Any
) -> Understood | str:
    terms = terms_of(workload(**policy))
    assert terms is not None
    return Questions(SECRET).read(asked, headers or {}, json.dumps(body).encode(), terms)


def exact_of(asked: Any, body: dict[str, Any], **policy: Any) -> bytes:
    found = question_of(asked, body, **policy)
    assert not isinstance(found, str), found
    return found.question.exact


def chat(text: str = "hello", *earlier: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [*earlier, {"role": "user", "content": text}], **more}


def test_the_exact_key_is_that_of_the_cache_for_the_partition_it_names() -> None:
    found = question_of(ask(), chat("  What's NEW\n", {"role": "system", "content": "Be brief"}, temperature=0.2))
    assert not isinstance(found, str)
    partition = Partition(
        tenant="a", jurisdiction="EU/", workload="chat", policy='["any",[],"tenant"]', model='["tiny",[""]]',
        variant="", quality_tier="0.0", embedder="hashed", embedder_version="",
        system_prompt=canonical([{"role": "system", "content": "Be brief"}]), earlier_turns="[]",
        parameters=canonical(["chat", {"temperature": 0.2}]),
    )  # fmt: skip
    assert found.question.partition == partition.key(SECRET)
    assert found.question.exact.hex() == exact_key(SECRET, partition, "what's new")[:32]


def test_the_order_and_spacing_of_a_body_do_not_matter_but_its_values_do() -> None:
    body = chat("hi", {"role": "system", "content": "s"}, top_p=0.5, seed=3)
    turned = json.loads(json.dumps(body), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert exact_of(ask(), body) == exact_of(ask(), turned)
    assert exact_of(ask(), body) != exact_of(ask(), {**body, "seed": 4})
    assert exact_of(ask(), chat("hi", stream=True, user="u", max_tokens=5)) == exact_of(ask(), chat("hi"))


def test_a_changed_model_is_another_question() -> None:
    def plan(quality: float, served: str) -> Plan:
        shape = Architecture(
            layers=2, hidden_size=64, heads=2, kv_heads=2, head_dim=32, intermediate_size=128, vocab_size=256
        )
        variants = (Variant(name="bf16", quality=quality),)
        model = Model(metadata=Metadata(name="tiny"), spec=ModelSpec(architecture=shape, variants=variants))
        backend = Backend(
            row=0, site="s", cluster="c", model="tiny", variant="bf16", url="http://h:1", served_model=served
        )
        return Plan(generation=1, resources=(model,), backends=(backend,))

    terms = terms_of(workload())
    assert terms is not None
    keys = set()
    questions = Questions(SECRET)
    for quality, served in ((0.5, "tiny"), (0.6, "tiny"), (0.5, "tiny-v2")):
        questions.adopt(versions_of(plan(quality, served)))
        found = questions.read(ask(), {}, json.dumps(chat()).encode(), terms)
        assert not isinstance(found, str)
        keys.add(found.question.exact)
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (chat(tools=[{"a": 1}]), "tools"),
        (chat(tool_choice="auto"), "tools"),
        (chat("x", {"role": "tool", "content": "42"}), "tools"),
        (chat("x", {"role": "assistant", "tool_calls": [{"id": "1"}]}), "tools"),  # type: ignore[dict-item]
        (chat("x", {"role": "user", "content": [{"type": "image_url"}]}), "media"),  # type: ignore[dict-item]
        (chat(documents=[{"text": "t"}]), "untagged-documents"),
        (chat(temperature=1.2), "temperature"),
        (chat(temperature="hot"), "body"),
        (chat(top_logprobs=2), "logprobs"),
        ({"model": "tiny", "messages": []}, "not-text"),
        ({"model": "tiny", "messages": [{"role": "user", "content": None}]}, "not-text"),
        ({"model": "tiny", "messages": [{"role": "user", "content": "x", "odd": 1}]}, "not-text"),
        ({"model": "tiny", "messages": "x"}, "body"),
        (chat("a\x00b"), "non-printing"),
        (chat("x" * 9_000), "too-long"),
        (chat(" \n "), "empty"),
    ],
)
def test_what_has_no_question(body: dict[str, Any], reason: str) -> None:
    assert question_of(ask(), body) == reason


def test_tools_that_are_none_are_no_tools() -> None:
    assert exact_of(ask(), chat(tools=[], tool_choice="none")) != b""
    assert isinstance(question_of(ask(), chat(tools=None)), Understood)


def test_tags_are_taken_as_they_are_and_the_models_are_among_them() -> None:
    found = question_of(ask(), chat(), {b"x-gridctl-cache-tags": b"doc:1, doc:2,doc:1"})
    assert not isinstance(found, str)
    assert found.question.tags == ("doc:1", "doc:2", "model:tiny")
    assert question_of(ask(), chat(documents=[1]), {b"x-gridctl-cache-tags": b"doc:1"}) != "untagged-documents"
    assert question_of(ask(), chat(), {b"x-gridctl-cache-tags": b",".join(b"t%d" % n for n in range(17))}) == "tags"


def test_a_user_is_who_the_key_says_and_the_body_tells_apart() -> None:
    keys = {exact_of(ask(key=key), chat(user=user), sharing="user") for key in ("k", "l") for user in ("u", "v")}
    assert len(keys) == 4


def test_by_country_where_the_workload_keeps_to_it() -> None:
    from gridctl.resources.workload import JurisdictionRule

    def exact(rule: str, country: str) -> bytes:
        declared = workload()
        import msgspec

        spec = msgspec.structs.replace(declared.spec, jurisdiction=JurisdictionRule(rule=rule))  # type: ignore[arg-type]
        terms = terms_of(msgspec.structs.replace(declared, spec=spec))
        assert terms is not None
        found = Questions(SECRET).read(ask(country=country), {}, json.dumps(chat()).encode(), terms)
        assert not isinstance(found, str)
        return found.question.exact

    assert exact("any", "FR") == exact("any", "DE")
    assert exact("same-country", "FR") != exact("same-country", "DE")
    assert exact("any", "FR") != exact("same-jurisdiction", "FR")


WORDS = st.sampled_from(["hi", "HI", " hi ", "no", "yes", "1", "-1"])
REQUESTS = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(["a", "b", "a/b"]),
        "jurisdiction": st.sampled_from(["EU", "US", ""]),
        "model": st.sampled_from(["tiny", "large"]),
        "variant": st.sampled_from([None, "bf16", "int8"]),
        "endpoint": st.sampled_from(["chat", "completions"]),
        "text": WORDS,
        "system": st.sampled_from(["", "be brief", "be long"]),
        "earlier": st.sampled_from(["", "before", "hi"]),
        "more": st.sampled_from([{}, {"seed": 1}, {"seed": 2}, {"stop": ["x"]}, {"top_k": 5}]),
    }
)


@settings(max_examples=500, deadline=None)
@given(st.lists(REQUESTS, min_size=2, max_size=2))
def test_two_requests_share_an_answer_only_if_all_but_the_wording_of_the_last_turn_is_equal(
    pair: list[dict[str, Any]],
) -> None:
    """Random pairs, over a model of the rule that knows no hashes."""
    exact, partitions = [], []
    terms = terms_of(workload())
    assert terms is not None
    questions = Questions(SECRET)
    for one in pair:
        asked = ask(one["tenant"], one["jurisdiction"], one["endpoint"], one["model"], variant=one["variant"])
        if one["endpoint"] == "chat":
            earlier = [{"role": "system", "content": one["system"]}] if one["system"] else []
            earlier += [{"role": "user", "content": one["earlier"]}] if one["earlier"] else []
            body = chat(one["text"], *earlier, **one["more"])
        else:
            body = {"model": "tiny", "prompt": one["text"], **one["more"]}
        found = questions.read(asked, {}, json.dumps(body).encode(), terms)
        assert not isinstance(found, str)
        exact.append(found.question.exact)
        partitions.append(found.question.partition)

    def around(one: dict[str, Any]) -> tuple[Any, ...]:
        turns = (one["system"], one["earlier"]) if one["endpoint"] == "chat" else ()
        names = ("tenant", "jurisdiction", "model", "variant", "endpoint")
        return (*(one[name] for name in names), json.dumps(one["more"]), *turns)

    def wording(one: dict[str, Any]) -> str:
        return normalised(one["text"]) if one["endpoint"] == "chat" else str(one["text"])

    first, second = pair
    assert (partitions[0] == partitions[1]) == (around(first) == around(second))
    is_same = around(first) == around(second) and wording(first) == wording(second)
    assert (exact[0] == exact[1]) == is_same


def test_a_huge_body_is_understood_in_time() -> None:
    body = chat("short", *({"role": "user", "content": "x" * 100_000} for _ in range(50)))
    started = time.process_time()
    for _ in range(3):
        exact_of(ask(), body)
    assert time.process_time() - started < 2.0
