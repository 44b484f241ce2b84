"""Measures models with transformers. Run by an interpreter that has torch, as a script; gridctl never imports it.

    tokens       the token numbers of a text
    activations  norms of every matrix's inputs, and how much every layer changes what passes through it
    quality      KL divergence, top-1 agreement and perplexity of a variant against its base

Each writes a JSON object to --result and says `@done N` on stdout as it goes. One model is in memory at a time: the
base's log-probabilities wait on the disk. Only safetensors is loaded, and never code that comes with a model.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokens", "activations", "quality"))
    for name in ("model", "text", "variant", "ids", "scratch", "result", "norms"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--bytes", type=int, default=0)
    chosen = parser.parse_args()
    found = {"tokens": tokens, "activations": activations, "quality": quality}[chosen.what](chosen)
    chosen.result.write_text(json.dumps(found), encoding="utf-8")


def tokens(chosen: argparse.Namespace) -> dict[str, Any]:
    """Token numbers of the first --bytes of --text, without the marks that begin and end a prompt."""
    from transformers import AutoTokenizer  # type: ignore[import-not-found]

    with chosen.text.open("rb") as file:
        text = file.read(chosen.bytes).decode("utf-8", "ignore")
    return {"ids": AutoTokenizer.from_pretrained(chosen.model)(text, add_special_tokens=False)["input_ids"]}


def loaded(folder: Path, torch: Any) -> Any:
    """The model in its own precision."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True).eval()


def windows(chosen: argparse.Namespace, torch: Any) -> Any:
    """Token numbers (windows, length)."""
    return torch.tensor(json.loads(chosen.ids.read_text(encoding="utf-8")), dtype=torch.long)


def activations(chosen: argparse.Namespace) -> dict[str, Any]:
    """Σ x² of every column of every linear layer's input, to the file --norms, and the layers' influences."""
    import torch  # type: ignore[import-not-found]
    from safetensors.torch import save_file

    model = loaded(chosen.model, torch)
    sums: dict[str, Any] = {}
    influence: dict[int, list[float]] = {}

    def watch_linear(name: str) -> Any:
        def hook(_module: Any, inputs: Any) -> None:
            squares = inputs[0].reshape(-1, inputs[0].shape[-1]).double().square().sum(0)
            sums[name] = sums[name] + squares if name in sums else squares

        return hook

    def watch_layer(number: int) -> Any:
        def hook(_module: Any, inputs: Any, keywords: Any, output: Any) -> None:
            before = inputs[0] if inputs else keywords["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
            influence.setdefault(number, []).append(float((1 - cosine).mean()))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch_linear(name))
    for number, layer in enumerate(layers_of(model, torch)):
        layer.register_forward_hook(watch_layer(number), with_kwargs=True)
    with torch.inference_mode():
        for window in windows(chosen, torch):
            model(window[None], use_cache=False)
            print(f"@done {window.numel()}", flush=True)  # noqa: T201 (this is how a script reports)
    save_file({f"{name}.input_norm": found.sqrt().float() for name, found in sums.items()}, str(chosen.norms))
    means = [sum(influence[number]) / len(influence[number]) for number in sorted(influence)]
    return {"influence": means}


def layers_of(model: Any, torch: Any) -> Any:
    """The decoder's layers: the longest list of modules that has as many as config.json says."""
    config = model.config.get_text_config()
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == config.num_hidden_layers]
    if not lists:
        raise SystemExit("the model's layers cannot be found")
    return lists[0]


def quality(chosen: argparse.Namespace) -> dict[str, Any]:
    """Means over all predicted tokens: KL(base ‖ variant) in nats, share of equal first choices, perplexities."""
    import numpy as np
    import torch

    ids = windows(chosen, torch)
    count = ids.shape[0] * (ids.shape[1] - 1)
    kept: Any = None
    lost = {"base": 0.0, "variant": 0.0}
    divergence, agreed, row = 0.0, 0, 0
    for part, folder in (("base", chosen.model), ("variant", chosen.variant)):
        model = loaded(folder, torch)
        row = 0
        with torch.inference_mode():
            for window in ids:
                logits = model(window[None], use_cache=False).logits[0, :-1].float()
                odds = torch.log_softmax(logits, -1)
                if kept is None:
                    kept = np.memmap(chosen.scratch / "odds", np.float32, "w+", shape=(count, odds.shape[1]))
                elif kept.shape[1] != odds.shape[1]:
                    raise SystemExit(f"the base has {kept.shape[1]} tokens, the variant {odds.shape[1]}")
                here = slice(row, row + len(odds))
                lost[part] -= float(odds.gather(1, window[1:, None]).double().sum())
                if part == "base":
                    kept[here] = odds.numpy()
                else:
                    base = torch.from_numpy(np.array(kept[here]))
                    divergence += float((base.exp() * (base - odds)).double().sum())
                    agreed += int((base.argmax(-1) == odds.argmax(-1)).sum())
                row += len(odds)
                print(f"@done {window.numel()}", flush=True)  # noqa: T201 (this is how a script reports)
        del model
    return {
        "kl_nats": divergence / count,
        "top1_agreement": agreed / count,
        "perplexity_base": math.exp(min(700.0, lost["base"] / count)),
        "perplexity": math.exp(min(700.0, lost["variant"] / count)),
        "predictions": count,
    }


if __name__ == "__main__":
    main()
