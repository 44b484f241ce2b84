"""Asks a running grid one question and prints the answer as it comes.

    python client.py http://127.0.0.1:8080 [QUESTION]

With the `openai` package it is the official client that asks; without, the standard library does.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

HEADERS = {"x-gridctl-origin": "fr-paris-01", "x-gridctl-workload": "assistant"}


def ask_openai(url: str, question: str) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("GRID_KEY", "none"), default_headers=HEADERS)
    stream = client.chat.completions.create(
        model="llama-3.1-8b", messages=[{"role": "user", "content": question}], max_tokens=24, stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()


def ask_plainly(url: str, question: str) -> None:
    body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": question}], "max_tokens": 24,
            "stream": True}  # fmt: skip
    headers = {"content-type": "application/json", **HEADERS}
    if "GRID_KEY" in os.environ:
        headers["authorization"] = f"Bearer {os.environ['GRID_KEY']}"
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    print(choice["delta"].get("content") or "", end="", flush=True)
        print(f"\nserved at {response.headers['x-gridctl-site']} for ${response.headers['x-gridctl-usd']}")


def main() -> None:
    url, *words = sys.argv[1:]
    question = " ".join(words) or "Where does my question go?"
    try:
        ask_openai(url, question)
    except ImportError:
        ask_plainly(url, question)


if __name__ == "__main__":
    main()
