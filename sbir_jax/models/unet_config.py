"""What a UNet's config.json may say: levels, layers, transformers, added embeddings.

Keys are treated as `models.configs` says.
"""

import dataclasses
from typing import Annotated, Any

from pydantic import Field

from sbir_jax.models.config_schema import (
    BlockLayers,
    Blocks,
    Channels,
    Epsilon,
    Heads,
    MaybeLayers,
    PerLevel,
    Pixels,
    Widths,
    check_divides,
    check_levels,
    read_config,
)

DOWN_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
UP_BLOCKS = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
# Null stands for no layers there at all.
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", None)
ADDED = ("text_time", None)
# Of SDXL: height and width of the original, top and left of the crop, height and width
# of what was asked for.
SIZES = 6

# Keys that select a computation we do not have; only this value (diffusers' default,
# or the value that every Stable Diffusion has) is accepted.
FIXED = {
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
# Keys that cannot change what is computed here: dropout is for training, logits and
# softmax are always in float32, and the last belongs to an embedding we do not have.
IGNORED = {"dropout", "upcast_attention", "addition_embed_type_num_heads"}

# Of one transformer, of those of a level, or of each of them.
Depths = MaybeLayers | Annotated[tuple[MaybeLayers, ...], PerLevel]


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """What a UNet's `config.json` says, in the names of that file."""

    sample_size: Pixels
    in_channels: Channels = 4
    out_channels: Channels = 4
    down_block_types: Blocks = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: Blocks = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: Widths = (320, 640, 1280, 1280)
    layers_per_block: BlockLayers | Annotated[tuple[BlockLayers, ...], PerLevel] = 2
    transformer_layers_per_block: (
        MaybeLayers | Annotated[tuple[Depths, ...], PerLevel]
    ) = 1
    reverse_transformer_layers_per_block: (
        Annotated[tuple[Depths, ...], PerLevel] | None
    ) = None
    attention_head_dim: Heads | Annotated[tuple[Heads, ...], PerLevel] = 8
    cross_attention_dim: Channels = 1280
    use_linear_projection: bool = False
    norm_num_groups: Channels = 32
    norm_eps: Epsilon = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: Annotated[int, Field(ge=0, le=1)] = 0
    addition_embed_type: str | None = None
    addition_time_embed_dim: Channels | None = None
    projection_class_embeddings_input_dim: Channels | None = None

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "UNetConfig":
        """Read the contents of a checkpoint's `unet/config.json`.

        Raises ValueError on a key, value or block type that this UNet has not.
        """
        what = "UNet"
        result = read_config(config, what, cls, FIXED, IGNORED)
        levels = len(result.block_out_channels)
        for key, known in (
            ("down_block_types", DOWN_BLOCKS),
            ("up_block_types", UP_BLOCKS),
        ):
            check_levels(what, key, getattr(result, key), levels, known)
        for key, known in (
            ("mid_block_type", MID_BLOCKS),
            ("addition_embed_type", ADDED),
        ):
            if getattr(result, key) not in known:
                raise ValueError(
                    f"{what} config: {key}={getattr(result, key)!r} is not supported, "
                    f"only {known[0]!r} and null are"
                )
        check_levels(what, "attention_head_dim", result.heads, levels)
        result._check_layers(what, levels)
        result._check_added(what)
        for width, heads in zip(result.block_out_channels, result.heads, strict=True):
            check_divides(what, "norm_num_groups", result.norm_num_groups, width)
            check_divides(what, "attention_head_dim", heads, width)
        return result

    def _check_layers(self, what: str, levels: int) -> None:
        """Raise ValueError unless there are layers and transformers for each level."""
        down = "transformer_layers_per_block"
        up = f"reverse_{down}"
        own, other = self.transformer_layers_per_block, getattr(self, up)
        check_levels(what, "layers_per_block", self.layers, levels)
        if isinstance(own, tuple):
            check_levels(what, down, own, levels)
            if other is None and any(isinstance(depth, tuple) for depth in own):
                raise ValueError(
                    f"{what} config: {down}={own} is by the encoder's layers, so that "
                    f"{up} must be given for the decoder's"
                )
        if other is not None:
            check_levels(what, up, other, levels)
        for side, key in (("down", down), ("up", up)):
            counts = self.side_layers(side)
            for i, depths in enumerate(self.depths(side)):
                if depths and len(depths) != counts[i]:
                    raise ValueError(
                        f"{what} config: {key} has {len(depths)} entries for "
                        f"{side}_blocks.{i}, which has {counts[i]} layers"
                    )

    def _check_added(self, what: str) -> None:
        """Raise ValueError unless sizes and a text fill what the embedding takes."""
        if self.addition_embed_type and self.pooled_dim < 1:
            given = (
                self.addition_time_embed_dim,
                self.projection_class_embeddings_input_dim,
            )
            raise ValueError(
                f"{what} config: addition_embed_type={self.addition_embed_type!r} "
                "needs addition_time_embed_dim, and more than "
                f"{SIZES} times that as projection_class_embeddings_input_dim; they "
                f"are {given[0]} and {given[1]}"
            )

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads at each level: what the file calls `attention_head_dim`."""
        if isinstance(self.attention_head_dim, int):
            return (self.attention_head_dim,) * len(self.block_out_channels)
        return self.attention_head_dim

    @property
    def layers(self) -> tuple[int, ...]:
        """Residual layers of each level of the encoder; the decoder has one more."""
        if isinstance(self.layers_per_block, int):
            return (self.layers_per_block,) * len(self.block_out_channels)
        return self.layers_per_block

    def side_layers(self, side: str) -> tuple[int, ...]:
        """Residual layers of each block of "down" or "up", in the order they run in."""
        if side == "down":
            return self.layers
        return tuple(n + 1 for n in self.layers[::-1])

    def depths(self, side: str) -> tuple[tuple[int, ...], ...]:
        """How many layers each transformer has, for each block of "down", "mid", "up".

        Empty for a block without transformers; no block for a middle that is not there.
        """
        if side == "mid":
            return (self._depths("down", -1)[:1],) if self.mid_block_type else ()
        kinds = getattr(self, f"{side}_block_types")
        return tuple(
            self._depths(side, i) if (DOWN_BLOCKS | UP_BLOCKS)[kind] else ()
            for i, kind in enumerate(kinds)
        )

    def _depths(self, side: str, i: int) -> tuple[int, ...]:
        """What the file says of a block, whether it has transformers or not."""
        own = self.transformer_layers_per_block
        if isinstance(own, int):
            own = (own,) * len(self.block_out_channels)
        if side == "up":
            own = self.reverse_transformer_layers_per_block or own[::-1]
        depth, layers = own[i], self.side_layers(side)[i]
        return depth if isinstance(depth, tuple) else (depth,) * layers

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled text that is embedded beside the sizes; 0 for none."""
        if self.addition_embed_type is None or self.addition_time_embed_dim is None:
            return 0
        width = self.projection_class_embeddings_input_dim or 0
        return width - SIZES * self.addition_time_embed_dim

    @property
    def counts(self) -> dict[str, int]:
        """Layers, by the end of the name of a tensor that each of them has."""
        layers = sum(self.side_layers("down") + self.side_layers("up"))
        sides = (self.depths(side) for side in ("down", "mid", "up"))
        return {
            ".conv1.weight": layers + 2 * bool(self.mid_block_type),
            ".attn2.to_k.weight": sum(sum(depths) for side in sides for depths in side),
        }

    @property
    def stride(self) -> int:
        """Latent height and width must be multiples of this."""
        return 2 ** (len(self.block_out_channels) - 1)
