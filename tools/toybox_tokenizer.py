"""The tokenizer of the Toybox model, made from the words its captions can hold."""

import json
import pathlib

import numpy as np
from jaxtyping import Float

from sbir_jax.data.toybox.scenes import words

TOKENS = 77  # length of every text, as in CLIP


def make_tokenizer(folder: pathlib.Path) -> int:
    """A byte-level BPE in CLIP's two files in which every Toybox word is one token.

    Any other word falls apart into characters, so any text can be given. A tokenizer
    that is there is kept: the learner numbers equally frequent pieces by chance, and a
    network that goes on training must go on with the numbers it began with.

    Returns: the number of tokens.
    """
    if (folder / "tokenizer_config.json").exists():
        return len(json.loads((folder / "vocab.json").read_text()))
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>"
    )
    learner.train_from_iterator([" ".join(words.VOCABULARY)], trainer)
    merges = [
        " ".join(pair) if isinstance(pair, list) else pair
        for pair in json.loads(learner.to_str())["model"]["merges"]
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    # Written last: with it the folder is whole.
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return len(tokens)


def read_vocabulary(folder: pathlib.Path) -> dict[str, int]:
    """Numbers of a tokenizer's tokens."""
    return json.loads((folder / "vocab.json").read_text(encoding="utf-8"))


def knows_all_words(folder: pathlib.Path) -> bool:
    """Whether every Toybox word is one token of this tokenizer."""
    known = read_vocabulary(folder)
    return all(f"{word}</w>" in known for word in " ".join(words.VOCABULARY).split())


def carry_over(
    rows: Float[np.ndarray, "old d"], old: pathlib.Path, new: pathlib.Path
) -> Float[np.ndarray, "new d"]:
    """A text encoder's token embeddings for another tokenizer.

    A token that both know keeps its row; another begins as the mean of the pieces into
    which the old tokenizer takes it apart.
    """
    from transformers import CLIPTokenizer

    tokenizer, known = CLIPTokenizer.from_pretrained(old), read_vocabulary(old)

    def row(token):
        if token in known:
            return rows[known[token]]
        pieces = tokenizer.tokenize(token.removesuffix("</w>"))
        return rows[tokenizer.convert_tokens_to_ids(pieces)].mean(0)

    numbers = read_vocabulary(new)
    return np.stack([row(token) for token in sorted(numbers, key=numbers.__getitem__)])
