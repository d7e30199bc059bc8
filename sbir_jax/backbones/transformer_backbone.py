"""What backbones with a diffusion transformer have in common."""

import abc
import dataclasses
from typing import Any

from sbir_jax.backbones.latent_space import LatentBackbone
from sbir_jax.models import block_names

T5_PADDING = 0  # its token


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerBackbone(LatentBackbone, abc.ABC):
    """A latent backbone whose blocks have the names of `models.block_names`.

    Weights of the transformer are under "unet", where every family has what removes
    noise; parts that were not asked for at loading are missing.
    """

    transformer: Any

    @property
    def denoiser(self) -> Any:
        return self.transformer

    @property
    def stride(self) -> int:
        return self.vae_factor * self.transformer.config.patch_size

    @property
    def tap_names(self) -> tuple[str, ...]:
        return block_names.tap_names(self.transformer.config)

    @property
    def attention_names(self) -> tuple[str, ...]:
        return block_names.attention_names(self.transformer.config)

    @property
    def residual_names(self) -> tuple[str, ...]:
        return block_names.residual_names(self.transformer.config)
