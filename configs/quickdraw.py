"""QuickDraw-Extended, zero-shot by category: 30 unseen classes of 110.

--config configs/quickdraw.py --config.data.root=DIR
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """After the colon `task=`."""
    task = parse_arg(arg, task="category")["task"]
    if task == "fine_grained":
        raise ValueError(
            "task=fine_grained after the colon of --config: QuickDraw's sketches are "
            "of no photo; give task=category, tokens or reranking"
        )
    config = base(task)
    config.data = dataset("quickdraw", split="30")
    return config
