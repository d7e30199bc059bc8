"""The embedded default: Toybox world, Toybox backbone, nothing to download."""

from sbir_jax.config import base, parse_arg


def get_config(arg=None):
    """`task=fine_grained` after the colon for instances instead of categories."""
    args = parse_arg(arg, task="category")
    config = base(args["task"])
    config.data = {"name": "toybox", "root": "", "share": 1.0}
    config.train.steps = 60
    config.train.learning_rate = 0.1
    config.train.score_every = 15
    config.score.cutoffs = (10,)  # of a class the gallery has 12
    return config
