"""Anybody's own sketches and photos: DIR/sketch/<class>/*, DIR/photo/<class>/*.

--config configs/folder.py --config.data.root=DIR --config.data.unseen=cup,chair
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """`task=fine_grained` where sketches are named after their photo."""
    args = parse_arg(arg, task="category")
    config = base(args["task"])
    # Unseen classes, comma-separated; none given, a fifth of them is drawn by seed.
    config.val_classes = 0  # a folder may hold only a few classes
    config.data = dataset("folder")
    return config
