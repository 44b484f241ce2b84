"""Makes a Llama of 100,000 random weights with a tokenizer of its own, for a real engine to serve. Run by a Python that
has torch and transformers, not by the tests' own:

    python tinymodel.py FOLDER

Its text is noise; its tokens, chunks, usage and timing are an engine's. The chat template ends in plain text, because a
model this small repeats the last token it saw, and a special one would be stripped from the answer.
"""

from __future__ import annotations

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCE = "every site of the grid answers the nearest client with the model it has "
TEMPLATE = "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}\n{% endfor %}assistant:"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs trained on one sentence."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=384, initial_alphabet=letters, special_tokens=["<s>", "</s>"])
    pairs.train_from_iterator([SENTENCE * 8], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def main() -> None:
    folder = sys.argv[1]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(shape).to(torch.float32).save_pretrained(folder)


if __name__ == "__main__":
    main()
