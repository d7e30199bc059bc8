"""A data set of a few pictures for dense tasks: a bright block on a dark ground."""

import numpy as np

from sbir_jax.data.dense.base import DenseData, Example, Split

SIDE = 32


def picture(i):
    """The picture, and where its block is."""
    rng = np.random.default_rng(i)
    image = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    top, left = rng.integers(0, SIDE // 2, 2)
    mask[top : top + 14, left : left + 14] = True
    image[mask] += 150
    return image, mask


def miniature(task, count=16):
    """Masks, expressions or depth of such pictures."""

    def read(i):
        image, mask = picture(i)
        if task == "segmentation":
            return Example(image, mask.astype(np.uint8))
        if task == "referring":
            return Example(image, mask, "the bright block")
        return Example(image, np.where(mask, 2.0, 4.0).astype(np.float32), place=i % 2)

    whole = Split(np.arange(count), read)
    return DenseData(
        name="blocks",
        fingerprint=f"blocks {task}",
        train=whole,
        tests={"near": whole.part(range(4)), "far": whole.part(range(4, 6))},
        classes=("ground", "block") if task == "segmentation" else (),
        known=2,
        groups=(0, 1),
        group_names=("ground", "thing"),
        places=("hall", "kitchen") if task == "depth" else ("",),
        most=10.0,
        unit="m",
    )
