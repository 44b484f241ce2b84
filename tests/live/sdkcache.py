"""What applications of the Messages and Responses APIs get of answers that were kept: their official clients against
one address, which has answered the same questions before. Run by a Python that has `anthropic` and `openai`: writes one
JSON object of what they understood.

    python sdkcache.py URL MODEL
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic
import openai

SAID: list[Any] = [{"role": "user", "content": "tell me of the edge"}]


def messages(url: str, model: str) -> dict[str, Any]:
    """One message whole, one streamed through the SDK's own helper."""
    asked: dict[str, Any] = {"model": model, "max_tokens": 64, "messages": SAID, "stop_sequences": [" "]}
    asked["extra_body"] = {"temperature": 0}
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        raw = client.messages.with_raw_response.create(**asked)
        whole = raw.parse()
        with client.messages.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            last = stream.get_final_message()
            word = stream.response.headers["x-gridctl-cache"]
    return {
        "words": [raw.headers["x-gridctl-cache"], word],
        "texts": [whole.content[0].text, last.content[0].text],
        "ids": [whole.id, last.id],
        "stops": [whole.stop_reason, last.stop_reason, whole.stop_sequence, last.stop_sequence],
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens, last.usage.output_tokens],
        "kinds": [kinds[0], kinds[-1]],
    }


def responses(url: str, model: str) -> dict[str, Any]:
    """One response whole, one streamed through the SDK's own helper."""
    asked: dict[str, Any] = {"model": model, "input": SAID, "store": False, "temperature": 0, "metadata": {"mine": "1"}}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        raw = client.responses.with_raw_response.create(**asked)
        whole = raw.parse()
        with client.responses.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            last = stream.get_final_response()
    assert whole.usage is not None
    return {
        "words": [raw.headers["x-gridctl-cache"]],
        "texts": [whole.output_text, last.output_text],
        "ids": [whole.id, last.id],
        "states": [whole.status, last.status],
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens],
        "kinds": [kinds[0], kinds[-1]],
    }


if __name__ == "__main__":
    json.dump({"messages": messages(*sys.argv[1:3]), "responses": responses(*sys.argv[1:3])}, sys.stdout)
