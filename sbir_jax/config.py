"""The keys every config has, and the short string after the colon of a config file."""

import ml_collections


def parse_arg(arg: str | None, **defaults):
    """ "split=21,task=fine_grained" over typed defaults.

    Raises: ValueError for a key that is not among the defaults.
    """
    values = dict(defaults)
    for part in filter(None, (arg or "").split(",")):
        key, equals, value = part.partition("=")
        if key not in defaults or not equals:
            allowed = ", ".join(f"{k}={v}" for k, v in defaults.items())
            raise ValueError(
                f"{part!r} after the colon of --config; known, with their defaults: "
                f"{allowed}"
            )
        values[key] = type(defaults[key])(value)
    return values


def base(task: str) -> ml_collections.ConfigDict:
    """What an experiment is made of; empty sections mean the defaults of their class.

    `recipe`, `prompt` and `train` are the fields of `features.Recipe`,
    `prompts.PromptConfig` and `train.TrainConfig`.
    """
    config = ml_collections.ConfigDict()
    config.task = task
    config.backbone = "toybox"  # or a folder in the diffusers layout, or a hub id
    config.random_weights = False  # the baseline: the same shape, nothing learnt
    config.image_size = 0  # pixels; 0: the backbone's native size
    config.embed_batch_size = 32
    config.val_classes = (
        4  # seen classes held out of training, for the curve; 0 for none
    )
    config.cutoffs = (100, 200)
    config.data = {}
    # No taps: those of the task.
    config.recipe = {"taps": (), "timestep": 273, "copies": 6, "pooling": "max"}
    config.prompt = {"border": 0, "text": "", "visual_scale": 1.0}
    config.train = {
        "steps": 1000,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "margin": 0.3,
        "seed": 0,
    }
    return config
