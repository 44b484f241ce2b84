"""Makes a variant with llm-compressor. Run by an interpreter that has it, as a script; gridctl never imports it.

Reads --model, writes --out in the formats of compressed-tensors, sparse models dense: no engine reads another form.
Only safetensors is loaded, and never code that comes with a model. `@done N` on stdout counts calibration tokens.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ALREADY_CUT = object()
"""In place of a tokenizer, which llm-compressor asks for and does not use on token numbers."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "out", "text", "result"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--scheme", required=True)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--ignore", action="append", default=[])
    chosen = parser.parse_args()
    from llmcompressor import oneshot  # type: ignore[import-not-found]
    from transformers import AutoModelForCausalLM, AutoTokenizer  # type: ignore[import-not-found]

    pinning_only_with_accelerator()
    model = AutoModelForCausalLM.from_pretrained(chosen.model, dtype="auto", use_safetensors=True)
    given: dict[str, Any] = {}
    if chosen.text is not None:
        samples = windows(chosen, AutoTokenizer)
        given = {"dataset": samples, "num_calibration_samples": len(samples), "processor": ALREADY_CUT}
    oneshot(model=model, recipe=recipe(chosen.scheme, ["lm_head", *chosen.ignore]), **given)
    is_sparse = chosen.scheme.startswith("sparsegpt")
    model.save_pretrained(chosen.out, save_compressed=not is_sparse)
    if chosen.result is not None:
        chosen.result.write_text(json.dumps({"scheme": chosen.scheme}), encoding="utf-8")


def pinning_only_with_accelerator() -> None:
    """llm-compressor 0.14's AWQ pins memory for an accelerator even where there is none, and torch then refuses."""
    import torch  # type: ignore[import-not-found]

    if not torch.accelerator.is_available():
        torch.Tensor.pin_memory = lambda tensor, *_device: tensor


def recipe(scheme: str, ignore: list[str]) -> Any:
    """The modifier of llm-compressor that makes the scheme."""
    from llmcompressor.modifiers.gptq import GPTQModifier  # type: ignore[import-not-found]
    from llmcompressor.modifiers.pruning import SparseGPTModifier  # type: ignore[import-not-found]
    from llmcompressor.modifiers.quantization import QuantizationModifier  # type: ignore[import-not-found]
    from llmcompressor.modifiers.transform.awq import AWQModifier  # type: ignore[import-not-found]

    if scheme.startswith("gptq-"):
        return GPTQModifier(targets="Linear", scheme=scheme.removeprefix("gptq-").upper(), ignore=ignore)
    if scheme.startswith("awq-"):
        weights = QuantizationModifier(targets="Linear", scheme=scheme.removeprefix("awq-").upper(), ignore=ignore)
        return [AWQModifier(), weights]
    if scheme.startswith("sparsegpt-"):
        mask = "2:4" if scheme.endswith("2:4") else "0:0"
        return SparseGPTModifier(sparsity=0.5, mask_structure=mask, ignore=ignore)
    return QuantizationModifier(targets="Linear", scheme=scheme.upper(), ignore=ignore)


def windows(chosen: argparse.Namespace, tokenizers: Any) -> Any:
    """Batches of one window: token numbers from .jsonl, or the text cut by the model's tokenizer."""
    import torch

    ids: list[int] = []
    if chosen.text.suffix == ".jsonl":
        with chosen.text.open(encoding="utf-8") as file:
            for line in file:
                ids += json.loads(line) if line.strip() else []
    else:
        with chosen.text.open("rb") as file:
            text = file.read(32 * chosen.tokens).decode("utf-8", "ignore")
        ids = tokenizers.from_pretrained(chosen.model)(text, add_special_tokens=False)["input_ids"]
    length = min(chosen.length, len(ids))
    if length < 2:
        raise SystemExit("there is too little text")
    count = min(chosen.tokens, len(ids)) // length
    rows = torch.tensor(ids[: count * length]).reshape(count, length)
    samples = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]
    return torch.utils.data.DataLoader(samples, batch_size=1, shuffle=False)


if __name__ == "__main__":
    main()
