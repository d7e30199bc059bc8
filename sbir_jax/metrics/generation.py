"""How good generated pictures are: edges, distributions, diversity. Pure numpy.

Distances of distributions are of features that the caller gives: only with those of the
Inception network are they figures of the literature.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

TOLERANCE = 1 / 32  # of a side, between a stroke and its edge (ours)


def strokes(sketches: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
    """The lines of drawings, dark on light, one pixel wide."""
    from skimage.morphology import skeletonize

    return np.stack([skeletonize(sketch.mean(-1) < 128) for sketch in sketches])


def edges(pictures: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n h w"]:
    """Canny's edges of pictures in grey, at scikit-image's own thresholds."""
    from skimage.feature import canny

    return np.stack([canny(picture.mean(-1) / 255, sigma=1.0) for picture in pictures])


def edge_agreement(
    found: Bool[np.ndarray, "n h w"], wanted: Bool[np.ndarray, "n h w"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Of each picture, how its edges agree with the strokes it was made of.

    Returns: "precision", the share of edges that have a stroke within `TOLERANCE` of a
      side; "recall", the share of strokes that have an edge so near; "F", their
      harmonic mean. 0 where there is nothing to count.
    """
    reach = TOLERANCE * max(found.shape[1:])

    def near(points, others):
        if not points.any() or not others.any():
            return 0.0
        apart = np.asarray(ndimage.distance_transform_edt(~others))
        return float((apart[points] <= reach).mean())

    pairs = list(zip(found, wanted, strict=True))
    precision = np.array([near(edge, line) for edge, line in pairs])
    recall = np.array([near(line, edge) for edge, line in pairs])
    both = np.maximum(precision + recall, 1e-12)
    return {
        "precision": precision,
        "recall": recall,
        "F": 2 * precision * recall / both,
    }


def frechet(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Fréchet distance of two Gaussians (Heusel et al., 2017, equation 6).

    Raises: ValueError for fewer than two rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"{len(x)} and {len(y)} feature vectors; give 2 or more each")
    a, b = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    root = scipy.linalg.sqrtm(a @ b)
    apart = np.square(x.mean(0) - y.mean(0)).sum()
    return float(max(apart + np.trace(a + b - 2 * np.real(root)), 0.0))


def inception_score(chances: Float[np.ndarray, "n c"]) -> float:
    """exp of the mean divergence of p(class | picture) from p(class) (Salimans et al.,
    2016); its name is that of the classifier it was used with."""
    p = np.clip(chances, 1e-12, None)
    return float(np.exp((p * np.log(p / p.mean(0, keepdims=True))).sum(1).mean()))


def coverage(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], k: int = 3
) -> float:
    """The share of y within a k-th neighbour's distance of some x: recall for real
    pictures y, precision for made ones (Kynkäänniemi et al., 2019, equation 2).

    Raises: ValueError where x has no k neighbours.
    """
    if len(x) <= k:
        raise ValueError(f"{len(x)} feature vectors have no {k} neighbours each")
    own = np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), axis=1)[:, k]
    apart = np.linalg.norm(y[:, None] - x[None], axis=-1)
    return float((apart <= own[None]).any(1).mean())


def diversity(features: Float[np.ndarray, "n k d"]) -> float:
    """Mean distance between k features of one request, over n requests.

    Raises: ValueError for one picture a request.
    """
    n, k, _ = features.shape
    if k < 2:
        raise ValueError("diversity needs 2 or more pictures of each request")
    apart = np.linalg.norm(features[:, :, None] - features[:, None], axis=-1)
    return float(apart.sum() / (n * k * (k - 1)))
