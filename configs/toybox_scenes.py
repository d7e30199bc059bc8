"""Toybox scenes: masks, expressions and depth, nothing to download."""

from sbir_jax.config import base, parse_arg


def get_config(arg=None):
    """`task=referring` or `task=depth` after the colon for these."""
    args = parse_arg(arg, task="segmentation")
    config = base(args["task"])
    config.data = {
        "name": "toybox_scenes", "size": 64, "aspect": "1:1", "train": 800, "val": 100,
        "test": 200, "novel": 100, "world": 0, "cache_dir": "",
    }  # fmt: skip
    # Chosen for a laptop's processor, not tuned.
    config.read.maps = args["task"] != "depth"  # as published
    config.train.steps = 200
    config.train.batch_size = 16
    config.train.learning_rate = 2e-3
    config.train.weight_decay = 1e-3
    config.train.score_every = 50
    config.val_examples = 64
    config.width = {"segmentation": 48, "referring": 48, "depth": 192}[args["task"]]
    config.augment = "" if args["task"] == "referring" else "flip"
    config.text_length = 20
    return config
