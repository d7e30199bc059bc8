"""ShoeV2 of QMUL: find the very shoe that was drawn, among those never trained on.

--config configs/shoev2.py --config.data.root=DIR
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """Nothing to choose after the colon: the division and the task are given."""
    parse_arg(arg)
    config = base("fine_grained")
    config.val_classes = 0  # what is seen is one class, and training needs it
    config.data = dataset("shoev2")
    return config
