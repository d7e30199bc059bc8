"""Text states of class names, one for each: what segmentation and depth are told."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import encode_texts

TEMPLATES = ("a photo of a {}",)
BATCH = 64  # texts at a time


def class_states(
    loaded: LoadedBackbone,
    names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> Float[np.ndarray, "n d"]:
    """The pooled state of each name in each template, their mean without any scaling.

    VPD embeds one sentence a class, or the mean over 80 templates; neither start nor
    padding tokens are among the states. Underscores become spaces.
    """
    texts = [t.format(n.replace("_", " ")) for n in names for t in templates]
    rows = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        # Always as many, so that one program serves all.
        filled = some + [""] * (BATCH - len(some) if len(texts) > BATCH else 0)
        rows.append(np.asarray(encode_texts(loaded, filled).pooled)[: len(some)])
    pooled = np.concatenate(rows)
    return pooled.reshape(len(names), len(templates), -1).mean(1)
