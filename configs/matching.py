"""Which text belongs to which image, on your copy of a published benchmark."""

from sbir_jax.config import base, parse_arg

# What `data.matching.load` takes of each, beside `root`; layouts: docs/matching.md.
OPTIONS = {
    "comvg": {"train": True},
    "refcocog": {"train": True, "protocol": "umd", "seed": 0},
    "vqav2": {"train": True, "protocol": "other", "seed": 0},
    "flickr30k": {"train": True, "protocol": "text"},
    "winoground": {},
}


def get_config(arg=None):
    """After the colon `data=` one of OPTIONS; comvg by default."""
    args = parse_arg(arg, data="comvg")
    if args["data"] not in OPTIONS:
        known = ", ".join(OPTIONS)
        raise ValueError(f"data={args['data']} after the colon; known are {known}")
    config = base("matching")
    config.data = {"name": args["data"], "root": "", **OPTIONS[args["data"]]}
    # Below 1, a share of the training pairs; the release takes 0.05.
    config.train.shots = 0.0 if args["data"] == "winoground" else 0.05
    config.train.steps = 1000
    if args["data"] in ("refcocog", "vqav2"):
        config.train.candidates = 10
    return config
