"""QuickDraw-Extended, zero-shot by category: 30 unseen classes of 110.

--config configs/quickdraw.py --config.data.root=DIR
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """Nothing to choose after the colon: there is one split."""
    parse_arg(arg)
    config = base("category")  # its sketches are of no photo
    config.data = dataset("quickdraw", split="30")
    return config
