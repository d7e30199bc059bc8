"""Published weights of token matching and of vision transformers, from safetensors.

Three layouts are read: that of the release of Lin et al. (CVPR 2023), the whole system;
that of the transformers it starts from, trained with SAM on ImageNet-1K; and timm's.
The first two are pickles where they are published: `tools.convert_zse_sbir` makes
safetensors of them.
"""

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.backbones.tensor_names import leaves, to_file
from sbir_jax.runtime.tensor_files import save_tensors

Tensors = Mapping[str, np.ndarray]
SOURCE = "sa.model."  # before the transformer's names in the release's
PLAIN = ("a", "b", "cls", "pos_embedding")  # tensors that are no layer's weight
# The release carries copies of its cross-attention that it never runs.
UNUSED = re.compile(r"ca\.encoder\.layers\.")
TIMM = {
    "cls": "cls_token", "pos_embedding": "pos_embed", "embedding": "patch_embed.proj",
    "transformer.encoder_norm": "norm", "layer_norm_input": "norm1",
    "layer_norm_out": "norm2", "attention.to_qkv": "attn.qkv",
    "attention.to_out.0": "attn.proj", "mlp.net.0": "mlp.fc1", "mlp.net.3": "mlp.fc2",
}  # fmt: skip
HEADS = re.compile(r"(head|fc_norm|mlp_head)\.")  # classifiers, of no use here


def published_name(keys: tuple[str, ...]) -> str:
    """The release's name: ("transformer", "layers_3_0", "mlp", "net_0", "kernel") is
    "transformer.layers.3.0.mlp.net.0.weight"."""
    *scopes, leaf = keys
    # `w_1` is a name, not the second entry of a list.
    scopes = [s if s.startswith("w_") else re.sub(r"_(\d+)", r".\1", s) for s in scopes]
    leaf = leaf if leaf in PLAIN else "bias" if leaf == "bias" else "weight"
    return ".".join([*scopes, leaf])


def timm_name(name: str) -> str:
    """Of one of a transformer's published names."""
    stem, _, leaf = name.rpartition(".")
    if name in TIMM:
        return TIMM[name]
    if stem in TIMM:
        return f"{TIMM[stem]}.{leaf}"
    found = re.fullmatch(r"transformer\.layers\.(\d+)\.0\.(.+)", stem)
    assert found is not None, name
    return f"blocks.{found[1]}.{TIMM[found[2]]}.{leaf}"


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file, float32.

    Raises: FileNotFoundError; ValueError for another kind of file.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give weights in safetensors")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} is not read: weights are never unpickled. Make safetensors of it: "
            f"python -m tools.convert_zse_sbir {path} weights.safetensors"
        )
    try:
        return {name: x.astype(np.float32) for name, x in load_file(path).items()}
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is not valid safetensors: {error}") from None


def load(path: str | os.PathLike, like: TokenMatcher) -> tuple[TokenMatcher, list[str]]:
    """A file's weights in the place of those of `like`.

    Args:
      like: of the architecture that is wanted, arrays on the host.
    Returns: it, and which parts of `like` the file does not have and stay: those of
      relations, and the stem of the tokenizer, where it holds a transformer alone.
    Raises: as `read`; ValueError naming tensors that are missing, not expected, or of
      another shape.
    """
    tensors, where = read(path), str(path)
    if any(name.startswith(SOURCE) for name in tensors):
        inside = {n.removeprefix(SOURCE): x for n, x in tensors.items() if SOURCE in n}
        other = {n: x for n, x in tensors.items() if SOURCE not in n}
        other = {n: x for n, x in other.items() if not UNUSED.match(n)}
        source = _fill(like.source, inside, where, published_name)
        return TokenMatcher(source, _fill(like.relation, other, where)), []
    tensors = {n: x for n, x in tensors.items() if not HEADS.match(n)}
    name_of = published_name
    if "patch_embed.proj.weight" in tensors:
        name_of = lambda keys: timm_name(published_name(keys))  # noqa: E731
    plain = {name: part for name, part in like.source.items() if name != "scale"}
    filled = _fill(plain, tensors, where, name_of)
    kept = ["the stem of the tokenizer", "cross-attention and relation network"]
    return TokenMatcher({**like.source, **filled}, like.relation), kept


def save(path: str | os.PathLike, matcher: TokenMatcher) -> None:
    """The whole system under the release's names."""
    parts = ((SOURCE, matcher.source), ("", matcher.relation))
    tensors = {
        start + published_name(keys): np.ascontiguousarray(
            np.asarray(leaf).transpose(to_file(keys, leaf.ndim))
        )
        for start, part in parts
        for keys, leaf in leaves(part)
    }
    save_tensors(pathlib.Path(path), tensors)


def _fill(
    like: dict[str, Any],
    tensors: Tensors,
    where: str,
    name_of: Callable[[tuple[str, ...]], str] = published_name,
) -> dict[str, Any]:
    """The tree with the tensors' values. Raises: ValueError as `load`."""
    problems, flat, used = [], [], set()
    for keys, leaf in leaves(like):
        name, axes = name_of(keys), to_file(keys, leaf.ndim)
        wanted = tuple(leaf.shape[i] for i in axes)
        used.add(name)
        if name not in tensors:
            problems.append(f"{name} is missing")
        elif tensors[name].shape != wanted:
            problems.append(f"{name} is {tensors[name].shape}, not {wanted}")
        else:
            flat.append(tensors[name].transpose(np.argsort(axes)))
    problems += [f"{name} is not expected" for name in sorted(set(tensors) - used)]
    if problems:
        raise ValueError(
            f"{where} does not hold this network: {len(problems)} tensors do not fit, "
            f"such as {'; '.join(problems[:4])}. Set vit.* and relation.* to what it "
            "was made with"
        )
    return jax.tree.unflatten(jax.tree.structure(like), flat)
