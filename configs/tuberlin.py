"""TU-Berlin with its extended photos, zero-shot by category.

    --config configs/tuberlin.py:split=sake --config.data.root=DIR
    --config configs/tuberlin.py:split=sempcyc --config.data.root=DIR

The two draws share one class: figures on one say nothing about the other.
"""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    """Split "sake" (also ZSE-SBIR's) or "sempcyc" (also MARL's), 30 classes each."""
    args = parse_arg(arg, split="sake", task="category")
    if args["task"] == "fine_grained":
        raise ValueError(
            "task=fine_grained after the colon of --config: TU-Berlin's sketches are "
            "of no photo; give task=category, tokens or reranking"
        )
    config = base(args["task"])
    config.data = dataset("tuberlin", split=args["split"])
    return config
