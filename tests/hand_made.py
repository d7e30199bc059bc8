"""Data sets of no images, for tests of what is drawn, ranked and counted."""

import numpy as np

from sbir_jax.data.dataset import Items, Records


def items(modality, labels, instances, captions=None):
    return Items(
        modality,
        Records([], np.arange(len(labels))),
        np.array(labels, np.int32),
        np.array(instances, np.int32),
        ids=tuple(map(str, range(len(labels)))),
        captions=captions or ("",) * len(labels),
    )
