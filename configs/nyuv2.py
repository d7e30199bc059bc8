"""NYU Depth v2 by the lists of BTS, as VPD trains, on a frozen denoiser.

--config.train.unet_rate=0.01 is the published recipe.
"""

from sbir_jax.config import base, parse_arg


def get_config(arg=None):
    parse_arg(arg)
    config = base("depth")
    config.data = {"name": "nyuv2", "root": ""}
    config.image_size = 512
    config.read.maps = False  # published: depth joins no maps
    config.augment, config.slide = "published", True
    config.val_examples = 400
    # 25 epochs of 24,231 pictures, 24 at a time.
    config.train.steps = 25_000
    config.train.batch_size = 24
    config.train.learning_rate = 5e-4
    config.train.weight_decay = 0.1
    config.train.warmup = 0.5
    config.train.log_every = 50
    config.train.save_every = config.train.score_every = 1000
    return config
