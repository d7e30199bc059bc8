"""What the config.json of a Stable Diffusion 3 transformer may say; see `configs`."""

import dataclasses
from typing import Annotated, Any

from pydantic import Field

from sbir_jax.models.config_schema import (
    Channels,
    Heads,
    Layers,
    Pixels,
    read_config,
)

WHAT = "transformer"


@dataclasses.dataclass(frozen=True)
class MMDiTConfig:
    """What a multimodal diffusion transformer's config says, in that file's names."""

    sample_size: Pixels = 128
    patch_size: Annotated[int, Field(ge=1, le=64)] = 2
    in_channels: Channels = 16
    num_layers: Layers = 18
    attention_head_dim: Channels = 64
    num_attention_heads: Heads = 18
    joint_attention_dim: Channels = 4096
    caption_projection_dim: Channels = 1152
    pooled_projection_dim: Channels = 2048
    out_channels: Channels | None = 16
    pos_embed_max_size: Annotated[int, Field(ge=1, le=2**11)] = 96
    dual_attention_layers: Annotated[tuple[int, ...], Field(max_length=64)] = ()
    qk_norm: str | None = None

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "MMDiTConfig":
        """Read the contents of a checkpoint's `transformer/config.json`.

        Raises ValueError on a key or value that this transformer has not.
        """
        result = read_config(config, WHAT, cls, {}, set())
        for key, value, only in (
            ("out_channels", result.out_channels, (None, result.in_channels)),
            ("caption_projection_dim", result.caption_projection_dim, (result.width,)),
            ("qk_norm", result.qk_norm, (None, "rms_norm")),
        ):
            if value not in only:
                raise ValueError(
                    f"{WHAT} config: {key}={value!r} is not supported, only "
                    f"{only[-1]!r} is"
                )
        layers = range(result.num_layers)
        beyond = [i for i in result.dual_attention_layers if i not in layers]
        if beyond:
            raise ValueError(
                f"{WHAT} config: dual_attention_layers names {beyond[0]}, but with "
                f"num_layers={len(layers)} there are 0 to {len(layers) - 1}"
            )
        patches, rest = divmod(result.sample_size, result.patch_size)
        if rest or patches > result.pos_embed_max_size:
            raise ValueError(
                f"{WHAT} config: sample_size={result.sample_size} in patches of "
                f"patch_size={result.patch_size} is not a whole number up to "
                f"pos_embed_max_size={result.pos_embed_max_size}"
            )
        return result

    @property
    def width(self) -> int:
        """Channels of every layer."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def counts(self) -> dict[str, int]:
        """As of `UNetConfig`."""
        return {".attn.to_q.weight": self.num_layers}
