"""ADE20K (150 classes), as VPD trains; on a frozen denoiser unless told otherwise.

--config.train.unet_rate=0.1 is the published recipe.
"""

from sbir_jax.config import base, parse_arg


def get_config(arg=None):
    """`data=voc` or `data=cityscapes` after the colon for these."""
    args = parse_arg(arg, data="ade20k")
    config = base("segmentation")
    config.data = {"name": args["data"], "root": ""}
    config.image_size = 512
    config.augment, config.slide = "published", True
    config.val_examples = 200
    # Published, but for the learning rate's cosine, which is ours: theirs is linear.
    config.train.steps = 80_000
    config.train.batch_size = 16
    config.train.learning_rate = 8e-5
    config.train.weight_decay = 1e-3
    config.train.warmup = 1500 / 80_000
    config.train.log_every = 50
    config.train.save_every = config.train.score_every = 4000
    return config
