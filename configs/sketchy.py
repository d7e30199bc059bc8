"""The Sketchy database, zero-shot, in any of its layouts on disk.

    --config configs/sketchy.py:split=21 --config.data.root=DIR
    --config configs/sketchy.py:split=25 --config.data.root=DIR
    --config configs/sketchy.py:split=21,task=fine_grained --config.data.root=DIR

Give --config.backbone=FOLDER_OR_HUB_ID for Stable Diffusion; the embedded Toybox
backbone runs too, and is far smaller than what the literature's figures are from.
"""

from sbir_jax.config import base, dataset, parse_arg
from sbir_jax.data.sketchy import photos_for


def get_config(arg=None):
    """Split 21 (Yelamarthi et al.), 25 (drawn by SAKE) or 25-sempcyc (by SEM-PCYC)."""
    args = parse_arg(arg, split="21", task="category")
    config = base(args["task"])
    config.data = dataset(
        "sketchy", split=args["split"], photos=photos_for(args["task"])
    )
    return config
