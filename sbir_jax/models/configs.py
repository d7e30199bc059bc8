"""What a checkpoint's config.json files may say, and what they mean here.

Every key is either a field, or has the one value that this code computes, or cannot
change what is computed. Anything else is an error: a config that is not understood
would load and quietly give other features.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

DOWN_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
UP_BLOCKS = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
ENCODER_BLOCKS = ("DownEncoderBlock2D",)
DECODER_BLOCKS = ("UpDecoderBlock2D",)


def read_config(
    config: dict[str, Any],
    what: str,
    cls: type,
    fixed: dict[str, Any],
    ignored: set[str],
) -> dict[str, Any]:
    """The entries of a JSON config that are fields of `cls`, lists as tuples.

    Raises ValueError for a key that is neither a field, nor fixed, nor ignored, for a
    fixed key with another value, and for an absent or null field without a default.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    known = {}
    for key, value in config.items():
        if key.startswith("_") or key in ignored:
            continue
        if key in fixed:
            # Null, false and an absent key are one thing to those who write these.
            if value != fixed[key] and (value or fixed[key]):
                raise ValueError(
                    f"{what} config: {key}={value!r} is not supported, only "
                    f"{fixed[key]!r} is"
                )
        elif key in fields:
            known[key] = tuple(value) if isinstance(value, list) else value
        else:
            raise ValueError(
                f"{what} config: unknown key {key!r}; known are "
                f"{sorted({*fields, *fixed, *ignored})}"
            )
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and known.get(name) is None:
            raise ValueError(f"{what} config: a value for {name} is needed")
    return known


def check_levels(
    what: str,
    key: str,
    values: tuple[Any, ...],
    levels: int,
    allowed: Collection[str] | None = None,
) -> None:
    """Raise ValueError unless there is one entry per level, each of them allowed."""
    if len(values) != levels:
        raise ValueError(
            f"{what} config: {key} has {len(values)} entries, but block_out_channels "
            f"has {levels}"
        )
    unknown = [value for value in values if allowed and value not in allowed]
    if unknown:
        raise ValueError(
            f"{what} config: {key} holds the unknown block {unknown[0]!r}; known are "
            f"{sorted(allowed or ())}"
        )


# Keys that select a computation we do not have; only this value (diffusers' default,
# or the value that every Stable Diffusion 1.x and 2.x has) is accepted.
UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
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
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
}
# Keys that cannot change what is computed here: dropout is for training, logits and
# softmax are always in float32, and the last belongs to an embedding in UNET_FIXED.
UNET_IGNORED = {"dropout", "upcast_attention", "addition_embed_type_num_heads"}


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """What a UNet's `config.json` says, in the names of that file."""

    sample_size: int
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 1280
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: int = 0

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "UNetConfig":
        """Read the contents of a checkpoint's `unet/config.json`.

        Raises ValueError on a key, value or block type that this UNet has not.
        """
        what = "UNet"
        result = cls(**read_config(config, what, cls, UNET_FIXED, UNET_IGNORED))
        levels = len(result.block_out_channels)
        check_levels(
            what, "down_block_types", result.down_block_types, levels, DOWN_BLOCKS
        )
        check_levels(what, "up_block_types", result.up_block_types, levels, UP_BLOCKS)
        check_levels(what, "attention_head_dim", result.heads, levels)
        return result

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads at each level: what the file calls `attention_head_dim`."""
        if isinstance(self.attention_head_dim, int):
            return (self.attention_head_dim,) * len(self.block_out_channels)
        return self.attention_head_dim

    @property
    def stride(self) -> int:
        """Latent height and width must be multiples of this."""
        return 2 ** (len(self.block_out_channels) - 1)


def tap_names(config: UNetConfig) -> tuple[str, ...]:
    """Every feature the UNet can hand out, in the order in which they are computed."""
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


def map_names(config: UNetConfig) -> tuple[str, ...]:
    """Every cross-attention map the UNet can hand out, in execution order."""
    return tuple(name for name in tap_names(config) if ".attn." in name)


AUTOENCODER_FIXED = {
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
# The size it was trained at and how it is run in half precision, not what it computes.
AUTOENCODER_IGNORED = {"force_upcast", "sample_size"}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder's `config.json` says, in the names of that file."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "AutoencoderConfig":
        """Read the contents of a checkpoint's `vae/config.json`.

        Raises ValueError on a key, value or block type that we do not have.
        """
        what = "autoencoder"
        known = read_config(config, what, cls, AUTOENCODER_FIXED, AUTOENCODER_IGNORED)
        result = cls(**known)
        levels = len(result.block_out_channels)
        check_levels(
            what, "down_block_types", result.down_block_types, levels, ENCODER_BLOCKS
        )
        check_levels(
            what, "up_block_types", result.up_block_types, levels, DECODER_BLOCKS
        )
        return result

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(self.block_out_channels) - 1)


TINY_FIXED = {"act_fn": "relu", "shift_factor": 0.0}
# The decoder, which is not read; how latents are stored in a picture of 8 bits; and how
# it is run in half precision.
TINY_IGNORED = {
    "block_out_channels",
    "decoder_block_out_channels",
    "force_upcast",
    "latent_magnitude",
    "latent_shift",
    "num_decoder_blocks",
    "out_channels",
    "sample_size",
    "upsample_fn",
    "upsampling_scaling_factor",
}


@dataclasses.dataclass(frozen=True)
class TinyAutoencoderConfig:
    """What an AutoencoderTiny's `config.json` says of its encoder, in its names."""

    in_channels: int = 3
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    latent_channels: int = 4
    scaling_factor: float = 1.0

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "TinyAutoencoderConfig":
        """Read the contents of a tiny autoencoder's `config.json`.

        Raises ValueError on a class, key or value that we do not have.
        """
        what = "tiny autoencoder"
        kind = config.get("_class_name")
        if kind != "AutoencoderTiny":
            raise ValueError(
                f"{what} config: _class_name is {kind!r}, only 'AutoencoderTiny' "
                "(such as madebyollin/taesd) can be an encoder"
            )
        result = cls(**read_config(config, what, cls, TINY_FIXED, TINY_IGNORED))
        widths = result.encoder_block_out_channels
        check_levels(what, "num_encoder_blocks", result.num_encoder_blocks, len(widths))
        if len(set(widths)) != 1:
            raise ValueError(
                f"{what} config: encoder_block_out_channels={widths} is not supported, "
                "only one width for all levels is"
            )
        return result

    @property
    def width(self) -> int:
        """Channels of every layer but the first's input and the last's output."""
        return self.encoder_block_out_channels[0]

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(self.num_encoder_blocks) - 1)


CLIP_FIXED = {"model_type": "clip_text_model"}
# Training, pooling, token ids and bookkeeping.
CLIP_IGNORED = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dropout",
    "dtype",
    "eos_token_id",
    "initializer_factor",
    "initializer_range",
    "pad_token_id",
    "projection_dim",
    "torch_dtype",
    "transformers_version",
}


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig:
    """What a text encoder's `config.json` says, in the names of that file."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "CLIPTextConfig":
        """Read the contents of a checkpoint's `text_encoder/config.json`.

        Raises ValueError on a key or value that this tower has not.
        """
        known = read_config(config, "text encoder", cls, CLIP_FIXED, CLIP_IGNORED)
        result = cls(**known)
        if result.hidden_act not in ("quick_gelu", "gelu"):
            raise ValueError(
                f"text encoder config: hidden_act={result.hidden_act!r} is not "
                "supported, only 'quick_gelu' and 'gelu' are"
            )
        return result
