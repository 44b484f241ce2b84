"""What an application does: the official `openai` client against the gateway. Run by a Python that has it:

    python officialclient.py URL MODEL whole|stream|embeddings TOKENS

Prints one JSON object: what came, or the kind of error that the client raised.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai


def whole(client: openai.OpenAI, model: str, tokens: int) -> dict[str, Any]:
    answer = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=tokens
    )
    parsed = answer.parse()
    usage = parsed.usage
    return {
        "text": parsed.choices[0].message.content,
        "finish_reason": parsed.choices[0].finish_reason,
        "output_tokens": usage.completion_tokens if usage else None,
        "site": answer.headers.get("x-gridctl-site"),
        "variant": answer.headers.get("x-gridctl-model-variant"),
        "request_id": answer.headers.get("x-request-id"),
    }


def stream(client: openai.OpenAI, model: str, tokens: int) -> dict[str, Any]:
    pieces: list[str] = []
    finish_reason = output_tokens = None
    try:
        for chunk in client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
        ):
            if chunk.usage is not None:
                output_tokens = chunk.usage.completion_tokens
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                finish_reason = choice.finish_reason or finish_reason
                if len(pieces) == 2:
                    sys.stderr.write("streaming\n")
                    sys.stderr.flush()
    except openai.OpenAIError as error:
        return raised(error) | {"pieces": len(pieces)}
    return {"text": "".join(pieces), "finish_reason": finish_reason, "output_tokens": output_tokens}


def raised(error: openai.OpenAIError) -> dict[str, Any]:
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}


def main() -> None:
    url, model, what, tokens = sys.argv[1:5]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", timeout=60)
    try:
        said = (stream if what == "stream" else whole)(client, model, int(tokens))
    except openai.OpenAIError as error:
        said = raised(error)
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
