"""RefCOCO, RefCOCO+ and RefCOCOg, as VPD trains, on a frozen denoiser."""

from sbir_jax.config import base, parse_arg


def get_config(arg=None):
    """`split=refcoco+` or `split=refcocog` after the colon for these."""
    args = parse_arg(arg, split="refcoco")
    config = base("referring")
    config.data = {"name": "refcoco", "root": "", "split": args["split"]}
    config.image_size = 512
    config.text_length = 77 if args["split"] == "refcocog" else 40
    config.val_examples = 500
    # 40 epochs of 42,404 references, 32 at a time.
    config.train.steps = 53_000
    config.train.batch_size = 32
    config.train.learning_rate = 5e-5
    config.train.weight_decay = 1e-2
    config.train.log_every = 50
    config.train.save_every = config.train.score_every = 2000
    return config
