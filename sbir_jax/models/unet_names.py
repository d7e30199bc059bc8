"""Names of everything that the UNet hands out or takes in between its layers.

`down.1.attn.0` is the first transformer of the second level on the way down;
`down.1.attn.0.cross` its attention to the text, `down.1.attn.0.self` to the pixels.
"""

from sbir_jax.models.configs import DOWN_BLOCKS, UP_BLOCKS, UNetConfig

# In the order in which a transformer runs them.
ATTENTIONS = ("self", "cross")
# What an attention layer hands out; the names of `Readout`'s fields.
ATTENTION_PARTS = ("maps", "logits", "queries", "outputs")


def tap_names(config: UNetConfig) -> tuple[str, ...]:
    """Every activation the UNet can hand out, in the order they are computed in."""
    names = ["conv_in"]
    for side, blocks, extra in (("down", DOWN_BLOCKS, 0), ("up", UP_BLOCKS, 1)):
        if side == "up":
            names += ["mid.res.0", "mid.attn.0", "mid.res.1", "mid.out"]
        for i, block in enumerate(getattr(config, f"{side}_block_types")):
            for j in range(config.layers_per_block + extra):
                names.append(f"{side}.{i}.res.{j}")
                if blocks[block]:
                    names.append(f"{side}.{i}.attn.{j}")
            names.append(f"{side}.{i}.out")
    return (*names, "out")


def attention_names(config: UNetConfig) -> tuple[str, ...]:
    """Every attention layer, in the order they are computed in."""
    layers = (name for name in tap_names(config) if ".attn." in name)
    return tuple(f"{layer}.{kind}" for layer in layers for kind in ATTENTIONS)


def skip_names(config: UNetConfig) -> tuple[str, ...]:
    """The encoder's states that the decoder reads, in the order of a ControlNet's."""
    names, last = ["skip.conv_in"], len(config.down_block_types) - 1
    for i, block in enumerate(config.down_block_types):
        kind = "attn" if DOWN_BLOCKS[block] else "res"
        names += [f"skip.down.{i}.{kind}.{j}" for j in range(config.layers_per_block)]
        names += [f"skip.down.{i}.out"] * (i < last)
    return tuple(names)


def residual_names(config: UNetConfig) -> tuple[str, ...]:
    """Every place where something can be added to the running state.

    At the name of an activation it is added to all that follows, skips included, as T2I
    adapters do at the last layer of each level of the encoder (before `down.0.out`). At
    a name with "skip." it is added to what the decoder reads of the encoder, and the
    encoder does not see it: as a ControlNet does, whose last residual is for `mid.out`.
    """
    return (*tap_names(config)[:-1], *skip_names(config))
