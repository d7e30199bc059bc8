"""DiffCut: segments without names by recursive normalised cuts of one feature.

Couairon et al., "DiffCut: Catalyzing Zero-Shot Semantic Segmentation with Diffusion
Features and Recursive Normalized Cut" (NeurIPS 2024). The feature is the output of the
encoder's last self-attention, at t = 50 with an empty text.
"""

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, Int

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.dense.reading import attention, noised
from sbir_jax.models.heads.resizing import resize
from sbir_jax.types import TextStates

TIMESTEP, POWER, THRESHOLDS, MOST = 50, 10, 100, 0.5


def read_feature(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    empty: TextStates,
) -> Float[Array, "b h w c"]:
    """The output of the last self-attention of the encoder."""
    down = [n for n in attention(backbone, "self") if n.startswith("down.")]
    given = noised(backbone, latents, TIMESTEP, noise=True)
    found = backbone.read(frozen, given, TIMESTEP, empty, outputs=(down[-1],))
    return found.outputs[down[-1]].astype(jnp.float32)


def affinity(
    feature: Float[np.ndarray, "n c"], power: int = POWER
) -> Float[np.ndarray, "n n"]:
    """Cosine similarities, from 0 for the least to 1 for the largest, to a power."""
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True).clip(1e-12)
    cosine = unit @ unit.T
    low, high = cosine.min(), cosine.max()
    return ((cosine - low) / max(high - low, 1e-12)) ** power


def cut_cost(graph: Float[np.ndarray, "n n"], part: Bool[np.ndarray, " n"]) -> float:
    """What the cut between a part and the rest takes of each side's links, summed."""
    across = graph[part][:, ~part].sum()
    return across / graph[part].sum() + across / graph[~part].sum()


def best_cut(
    graph: Float[np.ndarray, "n n"],
) -> tuple[float, Bool[np.ndarray, " n"]]:
    """The cheapest of 100 thresholds on the second eigenvector, and its cost."""
    degrees = graph.sum(1)
    _, vectors = scipy.linalg.eigh(
        np.diag(degrees) - graph, np.diag(degrees), subset_by_index=[1, 1]
    )
    values = vectors[:, 0]
    cuts = np.linspace(values.min(), values.max(), THRESHOLDS + 2)[1:-1]
    parts = [values > cut for cut in cuts]
    parts = [part for part in parts if part.any() and not part.all()]
    if not parts:  # all links alike
        return np.inf, np.ones(len(graph), bool)
    return min(((cut_cost(graph, p), p) for p in parts), key=lambda found: found[0])


def recursive_cut(
    graph: Float[np.ndarray, "n n"], most: float = MOST
) -> Int[np.ndarray, " n"]:
    """Numbers of segments: parts are cut again while that costs less than `most`."""
    found, waiting, number = np.zeros(len(graph), int), [np.arange(len(graph))], 0
    while waiting:
        rows = waiting.pop()
        cost, part = (np.inf, None) if len(rows) < 3 else best_cut(graph[rows][:, rows])
        if part is None or cost >= most:
            found[rows], number = number, number + 1
        else:
            waiting += [rows[part], rows[~part]]
    return found


def segments(
    feature: Float[np.ndarray, "h w c"], size: tuple[int, int], most: float = MOST
) -> Int[np.ndarray, "y x"]:
    """A number for each pixel of a picture of this size.

    Pixels go to the segment whose mean is nearest to their enlarged feature.
    """
    h, w, c = feature.shape
    flat = np.asarray(feature, np.float64).reshape(h * w, c)
    parts = recursive_cut(affinity(flat), most)
    means = np.stack([flat[parts == i].mean(0) for i in range(parts.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    wide = resize(jnp.asarray(feature)[None], size)[0]
    wide /= jnp.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray((wide @ jnp.asarray(means.T, jnp.float32)).argmax(-1))
