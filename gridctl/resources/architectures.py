"""Architectures by name: the numbers of published config.json files, so that a profile need not spell them out."""

from __future__ import annotations

from gridctl.resources.model import Architecture

_LLAMA_VOCABULARY, _QWEN_VOCABULARY = 128_256, 151_936


def _architecture(
    layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int, head_dim: int = 128,
    *, tied: bool = False, experts: int = 0, experts_per_token: int = 0,
) -> Architecture:  # fmt: skip
    return Architecture(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        experts=experts,
        experts_per_token=experts_per_token,
        tied_embeddings=tied,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "llama-3.2-1b": _architecture(16, 2048, 32, 8, 8192, _LLAMA_VOCABULARY, 64, tied=True),
    "llama-3.2-3b": _architecture(28, 3072, 24, 8, 8192, _LLAMA_VOCABULARY, tied=True),
    "llama-3.1-8b": _architecture(32, 4096, 32, 8, 14_336, _LLAMA_VOCABULARY),
    "llama-3.1-70b": _architecture(80, 8192, 64, 8, 28_672, _LLAMA_VOCABULARY),
    "mistral-7b-v0.3": _architecture(32, 4096, 32, 8, 14_336, 32_768),
    "qwen3-0.6b": _architecture(28, 1024, 16, 8, 3072, _QWEN_VOCABULARY, tied=True),
    "qwen3-4b": _architecture(36, 2560, 32, 8, 9728, _QWEN_VOCABULARY, tied=True),
    "qwen3-8b": _architecture(36, 4096, 32, 8, 12_288, _QWEN_VOCABULARY),
    "qwen3-14b": _architecture(40, 5120, 40, 8, 17_408, _QWEN_VOCABULARY),
    "qwen3-32b": _architecture(64, 5120, 64, 8, 25_600, _QWEN_VOCABULARY),
    "qwen3-30b-a3b": _architecture(48, 2048, 32, 4, 768, _QWEN_VOCABULARY, experts=128, experts_per_token=8),
    "qwen3-235b-a22b": _architecture(94, 4096, 64, 4, 1536, _QWEN_VOCABULARY, experts=128, experts_per_token=8),
}
