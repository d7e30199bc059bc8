"""CLIP as a rival: cosines of transformers' own descriptors, where torch is there."""

import importlib.util

import numpy as np
import pytest

from sbir_jax.backbones.diffusers_files import find_folder
from sbir_jax.tasks.matching.clip import Clip

TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(TORCH, reason="torch is there")
def test_without_torch_it_says_what_to_do():
    with pytest.raises(ImportError, match=r"clip is 'x', and torch is not installed"):
        Clip("x")


@pytest.mark.skipif(not TORCH, reason="CLIP runs on torch")
def test_scores_are_cosines_of_its_descriptors(tmp_path):
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    tokenizer = CLIPTokenizer.from_pretrained(find_folder("toybox") / "tokenizer")
    layer = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": 1}
    ends["eos_token_id"] = tokenizer.eos_token_id
    config = CLIPConfig(
        text_config={**layer, **ends, "vocab_size": len(tokenizer)},
        vision_config={**layer, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    processor = CLIPProcessor(images, tokenizer)
    processor.save_pretrained(tmp_path)

    rng = np.random.default_rng(0)
    shown = list(rng.integers(0, 255, (3, 40, 40, 3), np.uint8))
    texts = ["a red mug", "a blue hat"]
    rows = np.array([0, 2, 1]), np.array([1, 0, 1])
    found = Clip(str(tmp_path)).pair_scores(shown, rows[0], texts, rows[1])
    given = processor(text=texts, images=shown, return_tensors="pt", padding=True)
    with torch.inference_mode():
        out = model(**given)
        cosines = out.image_embeds @ out.text_embeds.T  # of unit length
    wanted = cosines.numpy()[rows]
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)
