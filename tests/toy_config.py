"""The toy task's config file, as a user writes one."""

from sbir_jax.config import base, dataset, parse_arg


def get_config(arg=None):
    parse_arg(arg)
    config = base("tell_apart")
    config.data = dataset("toybox", size=16, instances=8, sketches=1, world=0)
    config.train.update({"steps": 60, "batch_size": 16, "score_every": 20})
    config.train.update({"save_every": 30, "learning_rate": 0.02})
    return config
