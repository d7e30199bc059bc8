"""Names of everything that the UNet hands out or takes in between its layers.

`down.1.attn.0` is the first transformer of the second level on the way down;
`down.1.attn.0.cross` its attention to the text, `down.1.attn.0.self` to the pixels.
Where a transformer has several layers, their number comes before: `.3.cross`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sbir_jax.models.unet_config import UNetConfig

# In the order in which a layer of a transformer runs them.
ATTENTIONS = ("self", "cross")
# What an attention layer hands out; the names of `Readout`'s fields.
ATTENTION_PARTS = ("maps", "logits", "queries", "outputs")


class Place(NamedTuple):
    """Where the parameters of a transformer's layer are, and its number of heads."""

    path: tuple[str, ...]
    heads: int


def tap_names(config: UNetConfig) -> tuple[str, ...]:
    """Every activation the UNet can hand out, in the order they are computed in."""
    names = ["conv_in"]
    for name, _, layers, depths in _blocks(config):
        for j in range(layers):
            names.append(f"{name}.res.{j}")
            names += [f"{name}.attn.{j}"] * (j < len(depths))
        names.append(f"{name}.out")
    return (*names, "out")


def _blocks(
    config: UNetConfig,
) -> Iterator[tuple[str, int, int, tuple[int, ...]]]:
    """The name, level, residual layers and transformers of each block, as they run."""
    last = len(config.block_out_channels) - 1
    for side in ("down", "mid", "up"):
        depths = config.depths(side)
        if side == "mid":
            # Where there is none, a name for what is read in its place.
            yield side, last, 2 * len(depths), depths[0] if depths else ()
            continue
        for i, layers in enumerate(config.side_layers(side)):
            yield f"{side}.{i}", i if side == "down" else last - i, layers, depths[i]


def attention_names(config: UNetConfig) -> tuple[str, ...]:
    """Every attention layer, in the order they are computed in."""
    return tuple(
        f"{name}.attn.{j}.{kind}"
        for name, _, _, depths in _blocks(config)
        for j, depth in enumerate(depths)
        for kinds in attention_kinds(depth)
        for kind in kinds
    )


def attention_kinds(depth: int) -> tuple[tuple[str, ...], ...]:
    """How the names of attention layers end, for each layer of a transformer."""
    return tuple(
        tuple(kind if depth == 1 else f"{k}.{kind}" for kind in ATTENTIONS)
        for k in range(depth)
    )


def places(config: UNetConfig) -> dict[str, Place]:
    """For each of `attention_names`, the transformer's layer that it belongs to."""
    found = {}
    for name, level, _, depths in _blocks(config):
        side, *number = name.split(".")
        block = f"{side}_blocks_{number[0]}" if number else "mid_block"
        for j, depth in enumerate(depths):
            for k, kinds in enumerate(attention_kinds(depth)):
                path = (block, f"attentions_{j}", f"transformer_blocks_{k}")
                place = Place(path, config.heads[level])
                found |= {f"{name}.attn.{j}.{kind}": place for kind in kinds}
    return found


def skip_names(config: UNetConfig) -> tuple[str, ...]:
    """The encoder's states that the decoder reads, in the order of a ControlNet's."""
    names, last = ["skip.conv_in"], len(config.down_block_types) - 1
    blocks = (block for block in _blocks(config) if block[0].startswith("down"))
    for name, level, layers, depths in blocks:
        kind = "attn" if depths else "res"
        names += [f"skip.{name}.{kind}.{j}" for j in range(layers)]
        names += [f"skip.{name}.out"] * (level < last)
    return tuple(names)


def residual_names(config: UNetConfig) -> tuple[str, ...]:
    """Every place where something can be added to the running state.

    At the name of an activation it is added to all that follows, skips included, as T2I
    adapters do at the last layer of each level of the encoder (before `down.0.out`). At
    a name with "skip." it is added to what the decoder reads of the encoder, and the
    encoder does not see it: as a ControlNet does, whose last residual is for `mid.out`.
    """
    return (*tap_names(config)[:-1], *skip_names(config))
