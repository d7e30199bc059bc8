"""What a checkpoint's config.json files may say, and what they mean here.

Every key is either a field, or has the one value that this code computes, or cannot
change what is computed. Anything else is an error: a config that is not understood
would load and quietly give other features.
"""

import dataclasses
from typing import Annotated, Any, TypeVar

from pydantic import Field

from sbir_jax.models.config_schema import (
    BlockLayers,
    Blocks,
    Channels,
    Epsilon,
    Heads,
    Layers,
    MaybeLayers,
    PerLevel,
    Positions,
    Positive,
    Vocabulary,
    Widths,
    check_divides,
    check_levels,
    read_config,
)

Text = TypeVar("Text", bound="CLIPTextConfig")

ENCODER_BLOCKS = ("DownEncoderBlock2D",)
DECODER_BLOCKS = ("UpDecoderBlock2D",)

AUTOENCODER_FIXED = {
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
}
# The size it was trained at and how it is run in half precision, not what it computes.
AUTOENCODER_IGNORED = {"force_upcast", "sample_size"}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder's `config.json` says, in the names of that file."""

    in_channels: Channels = 3
    out_channels: Channels = 3
    down_block_types: Blocks = ("DownEncoderBlock2D",)
    up_block_types: Blocks = ("UpDecoderBlock2D",)
    block_out_channels: Widths = (64,)
    layers_per_block: BlockLayers = 1
    latent_channels: Channels = 4
    norm_num_groups: Channels = 32
    scaling_factor: Positive = 0.18215
    shift_factor: Annotated[float, Field(allow_inf_nan=False)] | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "AutoencoderConfig":
        """Read the contents of a checkpoint's `vae/config.json`.

        Raises ValueError on a key, value or block type that we do not have.
        """
        what = "autoencoder"
        result = read_config(config, what, cls, AUTOENCODER_FIXED, AUTOENCODER_IGNORED)
        levels = len(result.block_out_channels)
        check_levels(
            what, "down_block_types", result.down_block_types, levels, ENCODER_BLOCKS
        )
        check_levels(
            what, "up_block_types", result.up_block_types, levels, DECODER_BLOCKS
        )
        for width in result.block_out_channels:
            check_divides(what, "norm_num_groups", result.norm_num_groups, width)
        return result

    @property
    def counts(self) -> dict[str, int]:
        """As of `unet_config.UNetConfig`."""
        levels, n = len(self.block_out_channels), self.layers_per_block
        return {".conv1.weight": levels * (2 * n + 1) + 4}

    @property
    def shift(self) -> float:
        """What is taken off latents before they are scaled."""
        return self.shift_factor or 0.0

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

    in_channels: Channels = 3
    encoder_block_out_channels: Widths = (64, 64, 64, 64)
    num_encoder_blocks: Annotated[tuple[MaybeLayers, ...], PerLevel] = (1, 3, 3, 3)
    latent_channels: Channels = 4
    scaling_factor: Positive = 1.0

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
        result = read_config(config, what, cls, TINY_FIXED, TINY_IGNORED)
        widths = result.encoder_block_out_channels
        check_levels(what, "num_encoder_blocks", result.num_encoder_blocks, len(widths))
        if len(set(widths)) != 1:
            raise ValueError(
                f"{what} config: encoder_block_out_channels={widths} is not supported, "
                "only one width for all levels is"
            )
        return result

    @property
    def counts(self) -> dict[str, int]:
        """As of `unet_config.UNetConfig`."""
        return {".conv.4.weight": sum(self.num_encoder_blocks)}

    @property
    def shift(self) -> float:
        """None: it was trained to give latents as the denoiser takes them."""
        return 0.0

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

    vocab_size: Vocabulary = 49408
    hidden_size: Channels = 512
    intermediate_size: Channels = 2048
    num_hidden_layers: Layers = 12
    num_attention_heads: Heads = 8
    max_position_embeddings: Positions = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Epsilon = 1e-5

    @classmethod
    def from_json(cls: type[Text], config: dict[str, Any]) -> Text:
        """Read the contents of a checkpoint's `text_encoder/config.json`.

        Raises ValueError on a key or value that this tower has not.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        ignored = CLIP_IGNORED - fields
        result = read_config(config, "text encoder", cls, CLIP_FIXED, ignored)
        if result.hidden_act not in ("quick_gelu", "gelu"):
            raise ValueError(
                f"text encoder config: hidden_act={result.hidden_act!r} is not "
                "supported, only 'quick_gelu' and 'gelu' are"
            )
        check_divides(
            "text encoder",
            "num_attention_heads",
            result.num_attention_heads,
            result.hidden_size,
        )
        return result

    @property
    def counts(self) -> dict[str, int]:
        """As of `unet_config.UNetConfig`."""
        return {".layer_norm1.weight": self.num_hidden_layers}


@dataclasses.dataclass(frozen=True)
class ProjectedCLIPTextConfig(CLIPTextConfig):
    """The same of a text encoder with its projection."""

    projection_dim: Channels = 512
