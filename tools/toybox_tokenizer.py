"""The tokenizer of the Toybox model, made from the words its captions can hold."""

import json
import pathlib

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
