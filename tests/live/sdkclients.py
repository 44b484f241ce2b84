"""What applications of the Messages and Responses APIs do: their official clients against one address. Run by a Python
that has `anthropic` and `openai`: writes one JSON object of what they understood.

    python sdkclients.py URL MODEL
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic
import openai

SAID: list[Any] = [{"role": "user", "content": "tell me of the edge"}]


def messages(url: str, model: str) -> dict[str, Any]:
    """One message whole, one streamed, one that is refused."""
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        whole = client.messages.create(model=model, max_tokens=6, messages=SAID, system="be short")
        with client.messages.stream(model=model, max_tokens=6, messages=SAID, system="be short") as stream:
            text = "".join(stream.text_stream)
            last = stream.get_final_message()
        stopped = client.messages.create(model=model, max_tokens=64, messages=SAID, stop_sequences=[" "])
        try:
            client.messages.create(model=f"{model}-none", max_tokens=6, messages=SAID)
            refused = ""
        except anthropic.APIStatusError as error:
            body: Any = error.body
            refused = f"{type(error).__name__} {error.status_code} {body['type']} {body['error']['type']}"
    return {
        "text": whole.content[0].text,
        "stop": whole.stop_reason,
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens],
        "streamed": text,
        "streamed_stop": last.stop_reason,
        "streamed_usage": last.usage.output_tokens,
        "stopped": [stopped.stop_reason, stopped.stop_sequence],
        "refused": refused,
    }


def responses(url: str, model: str) -> dict[str, Any]:
    """One response whole, one streamed."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        whole = client.responses.create(model=model, input="tell me of the edge", max_output_tokens=6)
        kinds: list[str] = []
        text, last = "", None
        for event in client.responses.create(model=model, input=SAID, max_output_tokens=6, stream=True):
            if not kinds or kinds[-1] != event.type:
                kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
            last = event
        # The SDK's own helper knows an end by `response.completed` alone, so this one is not cut at its tokens.
        with client.responses.stream(model=model, input=SAID) as stream:
            complete = stream.get_final_response()
    final: Any = last
    return {
        "text": whole.output_text,
        "status": whole.status,
        "usage": [whole.usage.input_tokens, whole.usage.output_tokens] if whole.usage else None,
        "kinds": kinds,
        "streamed": text,
        "helped": [complete.status, len(complete.output_text.split()) > 6],
        "final_usage": final.response.usage.output_tokens,
    }


if __name__ == "__main__":
    json.dump({"messages": messages(*sys.argv[1:3]), "responses": responses(*sys.argv[1:3])}, sys.stdout)
