"""Tokenizers: words to token ids."""

import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from sbir_jax.backbones import hub

# Every Stable Diffusion has its vocabulary; files of weights alone come without.
REPOSITORY = "openai/clip-vit-large-patch14"
FILES = ("merges.txt", "tokenizer_config.json", "vocab.json")


def read_tokenizer(
    path: pathlib.Path, kind: str = "CLIPTokenizer", **given: str
) -> Any:
    """The tokenizer of a folder.

    Args:
      kind: its class in transformers.
      given: of the tokenizer's settings, those that the folder's files have otherwise.
    Raises: FileNotFoundError without such a folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: this checkpoint has no tokenizer")
    # Tokenizers work without PyTorch, so being told of its absence helps nobody.
    logging.getLogger("transformers").addFilter(
        lambda record: "PyTorch was not found" not in record.getMessage()
    )
    import transformers

    return getattr(transformers, kind).from_pretrained(path, **given)


def find_vocabulary(path: pathlib.Path) -> pathlib.Path:
    """That folder, or CLIP's own from the hub where it does not exist.

    Raises: FileNotFoundError where it cannot be fetched.
    """
    if path.is_dir():
        return path
    remedy = f"Put the files of a CLIP tokenizer, {', '.join(FILES)}, into {path}"
    return hub.find_folder(REPOSITORY, _cached, _choose, remedy)


def _cached(source: str) -> pathlib.Path | None:
    found = [hub.cached_file(source, name) for name in FILES]
    return found[0].parent if found[0] and all(found) else None


def _choose(source: str, files: Iterable[str]) -> list[str]:
    return [name for name in files if name in FILES]


def token_ids(
    tokenizer: Any, texts: Sequence[str], length: int = 0
) -> Int[np.ndarray, "b n"]:
    """Token ids, int32, padded or cut to `length`, or to the tokenizer's own."""
    ids = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=length or tokenizer.model_max_length,
    )
    return np.asarray(ids["input_ids"], np.int32)
