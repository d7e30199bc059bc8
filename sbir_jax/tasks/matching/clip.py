"""CLIP beside the matcher: cosines of its own image and text descriptors.

It needs torch, and weights of transformers in a folder or in the hub's cache; nothing
else here does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from tqdm.auto import tqdm

from sbir_jax.data import images as images_lib
from sbir_jax.data.images import Source
from sbir_jax.metrics.cosine import unit

BATCH = 32


class Clip:
    """A CLIP model of transformers, on torch's CPU."""

    def __init__(self, source: str):
        """
        Args:
          source: a folder, or a hub id such as openai/clip-vit-base-patch32.
        Raises: ImportError without torch; OSError where there are no such weights.
        """
        try:
            import torch  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                f"clip is {source!r}, and torch is not installed, which CLIP runs on: "
                "pip install torch, or leave clip out"
            ) from error
        from transformers import CLIPModel, CLIPProcessor

        self.source, self._torch = source, torch
        self._model = CLIPModel.from_pretrained(source).eval()
        self._processor: Any = CLIPProcessor.from_pretrained(source)

    def pair_scores(
        self,
        images: Sequence[Source],
        image_rows: Int[np.ndarray, " p"],
        texts: Sequence[str],
        text_rows: Int[np.ndarray, " p"],
    ) -> Float[np.ndarray, "p 1"]:
        """The cosine of each pair; images as `images.decode` takes them, preprocessed
        as the checkpoint says."""
        seen = unit(self._images(images))
        read = unit(self._texts(texts))
        return (seen[image_rows] * read[text_rows]).sum(1, keepdims=True)

    def _images(self, images: Sequence[Source]) -> np.ndarray:
        def embed(part):
            pictures = [Image.fromarray(images_lib.decode(source)) for source in part]
            given = self._processor(images=pictures, return_tensors="pt")
            return self._model.get_image_features(**given)

        return self._batches(images, embed, "clip images")

    def _texts(self, texts: Sequence[str]) -> np.ndarray:
        def embed(part):
            options: Any = {"return_tensors": "pt", "padding": True, "truncation": True}
            return self._model.get_text_features(
                **self._processor(text=list(part), **options)
            )

        return self._batches(texts, embed, "clip texts")

    def _batches(self, things: Sequence, embed, what: str) -> np.ndarray:
        found = []
        with self._torch.inference_mode():
            for first in tqdm(range(0, len(things), BATCH), desc=what, leave=False):
                rows = embed(things[first : first + BATCH])
                # Newer releases of transformers wrap the projected descriptors.
                rows = getattr(rows, "pooler_output", rows)
                found.append(rows.float().cpu().numpy())
        return np.concatenate(found)
