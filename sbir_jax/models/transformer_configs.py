"""What config.json files of diffusion transformers and of T5 may say; see `configs`."""

import dataclasses
from typing import Annotated, Any

from pydantic import Field

from sbir_jax.models.config_schema import (
    Channels,
    Epsilon,
    Heads,
    Layers,
    Pixels,
    Positive,
    Vocabulary,
    read_config,
)

# Keys that select a computation we do not have, with the value that PixArt has.
PIXART_FIXED = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "double_self_attention": False,
    "norm_elementwise_affine": False,
    "norm_type": "ada_norm_single",
    "num_vector_embeds": None,
    "only_cross_attention": False,
}
# Training, half precision, and what belongs to other kinds of these classes.
PIXART_IGNORED = {
    "dropout",
    "norm_num_groups",
    "num_embeds_ada_norm",
    "upcast_attention",
    "use_linear_projection",
}
# What diffusers' older class takes for absent keys, where it differs from the newer
# one, whose defaults are those of the fields below.
OLDER_CLASS = "Transformer2DModel"
OLDER_DEFAULTS = {
    "activation_fn": "geglu",
    "attention_bias": False,
    "attention_head_dim": 88,
    "cross_attention_dim": None,
    "norm_elementwise_affine": True,
    "norm_eps": 1e-5,
    "norm_type": "layer_norm",
    "num_layers": 1,
    "out_channels": None,
    "patch_size": None,
}
CONDITIONED = 128  # the sample size whose models are told the picture's size


@dataclasses.dataclass(frozen=True)
class PixArtConfig:
    """What a PixArt transformer's `config.json` says, in the names of that file."""

    sample_size: Pixels
    caption_channels: Channels
    num_attention_heads: Heads = 16
    attention_head_dim: Channels = 72
    in_channels: Channels = 4
    out_channels: Channels | None = 8
    num_layers: Layers = 28
    cross_attention_dim: Channels = 1152
    patch_size: Annotated[int, Field(ge=1, le=64)] = 2
    norm_eps: Epsilon = 1e-6
    interpolation_scale: Positive | None = None
    use_additional_conditions: bool | None = None

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "PixArtConfig":
        """Read the contents of a checkpoint's `transformer/config.json`.

        Raises ValueError on a key or value that this transformer has not.
        """
        what = "transformer"
        if config.get("_class_name") == OLDER_CLASS:
            config = OLDER_DEFAULTS | config
        result = read_config(config, what, cls, PIXART_FIXED, PIXART_IGNORED)
        channels, width = result.in_channels, result.width
        if result.out_channels not in (None, channels, 2 * channels):
            raise ValueError(
                f"{what} config: out_channels={result.out_channels} is not supported, "
                f"only {channels} and, with a variance, {2 * channels} are"
            )
        if result.cross_attention_dim != width:
            raise ValueError(
                f"{what} config: cross_attention_dim={result.cross_attention_dim} is "
                f"not supported, only the width of the layers, {width}, is"
            )
        # Sines and cosines of rows and of columns share the width in quarters, and two
        # sizes and a ratio in thirds.
        parts = 12 if result.conditioned else 4
        if width % parts:
            raise ValueError(
                f"{what} config: num_attention_heads * attention_head_dim={width} is "
                f"not supported, only multiples of {parts} are"
            )
        if result.sample_size % result.patch_size:
            raise ValueError(
                f"{what} config: patch_size={result.patch_size} does not divide "
                f"sample_size={result.sample_size}"
            )
        return result

    @property
    def width(self) -> int:
        """Channels of every layer."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def conditioned(self) -> bool:
        """Whether the network is told the picture's size and shape."""
        if self.use_additional_conditions is None:
            return self.sample_size == CONDITIONED
        return self.use_additional_conditions

    @property
    def scale(self) -> float:
        """What positions are divided by, so that larger nets span the same range."""
        return self.interpolation_scale or float(max(self.sample_size // 64, 1))

    @property
    def predicted(self) -> int:
        """Channels of the last layer: the prediction, and a variance where there is
        one."""
        return self.out_channels or self.in_channels

    @property
    def counts(self) -> dict[str, int]:
        """As of `UNetConfig`."""
        return {".attn1.to_q.weight": self.num_layers}


T5_FIXED = {
    "dense_act_fn": "gelu_new",
    "is_decoder": False,
    "is_gated_act": True,
    "model_type": "t5",
}
# Training, the decoder, token ids and bookkeeping.
T5_IGNORED = {
    "architectures",
    "classifier_dropout",
    "decoder_start_token_id",
    "dropout_rate",
    "dtype",
    "eos_token_id",
    "initializer_factor",
    "is_encoder_decoder",
    "n_positions",
    "num_decoder_layers",
    "output_past",
    "pad_token_id",
    "scale_decoder_outputs",
    "task_specific_params",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


@dataclasses.dataclass(frozen=True)
class T5TextConfig:
    """What a T5 encoder's `config.json` says, in the names of that file."""

    feed_forward_proj: str
    vocab_size: Vocabulary = 32128
    d_model: Channels = 512
    d_kv: Channels = 64
    d_ff: Channels = 2048
    num_layers: Layers = 6
    num_heads: Heads = 8
    relative_attention_num_buckets: Annotated[int, Field(ge=4, le=2**12)] = 32
    relative_attention_max_distance: Annotated[int, Field(ge=2, le=2**16)] = 128
    layer_norm_epsilon: Epsilon = 1e-6

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "T5TextConfig":
        """Read the contents of a checkpoint's `text_encoder/config.json`.

        Raises ValueError on a key or value that this encoder has not.
        """
        what = "text encoder"
        result = read_config(config, what, cls, T5_FIXED, T5_IGNORED)
        if result.feed_forward_proj != "gated-gelu":
            raise ValueError(
                f"{what} config: feed_forward_proj={result.feed_forward_proj!r} is not "
                "supported, only T5 1.1's 'gated-gelu' is"
            )
        if result.relative_attention_max_distance <= result.buckets // 4:
            raise ValueError(
                f"{what} config: relative_attention_max_distance="
                f"{result.relative_attention_max_distance} is not above a quarter of "
                f"relative_attention_num_buckets={result.buckets}"
            )
        return result

    @property
    def buckets(self) -> int:
        """Distances that are told apart."""
        return self.relative_attention_num_buckets

    @property
    def counts(self) -> dict[str, int]:
        """As of `UNetConfig`."""
        return {".SelfAttention.q.weight": self.num_layers}
