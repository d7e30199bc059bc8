"""QuickDraw-Extended, zero-shot by category: 30 unseen classes of 110.

--config configs/quickdraw.py --config.data.root=DIR
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """After the colon `task=`; none by instance, since its sketches are of no photo."""
    config = base(parse_arg(arg, task="category")["task"])
    config.data = dataset("quickdraw", split="30")
    return config
