"""Eight fake CPU devices, strict shapes, and a compile cache for every test."""

import os
import pathlib

# Compiling is most of the work of so many small programs: without LLVM's optimisations
# they take a third less of the processor's time. What XLA itself fuses stays.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get(
        "JAX_COMPILATION_CACHE_DIR",
        str(pathlib.Path(__file__).resolve().parent.parent / ".jax_cache"),
    ),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def getkey():
    """A function that returns a fresh key at every call, the same sequence each run."""
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    return lambda: next(keys)


@pytest.fixture
def sbir_data():
    """The folder of real sketches and photos, or a skip where there is none."""
    root = os.environ.get("SBIR_DATA")
    if not root or not pathlib.Path(root).is_dir():
        pytest.skip("set SBIR_DATA to a folder with sketchy125/ to run on real images")
    return pathlib.Path(root)


# The layers to read where any will do: images and text count, and little is compiled.
EARLY = ("down.0.attn.0",)

TINY = {
    "vae": {
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    },
    "unet": {
        "sample_size": 8,
        "block_out_channels": [8, 16, 16, 16],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
    },
    "text_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_act": "quick_gelu",
    },
    "scheduler": {"beta_schedule": "scaled_linear", "beta_end": 0.012},
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A whole diffusion model of a few thousand random weights, for 32 px images."""
    from sbir_jax.backbones import stable_diffusion_files
    from tools.toybox_tokenizer import make_tokenizer

    root = tmp_path_factory.mktemp("tiny")
    size = make_tokenizer(root / "tokenizer")
    text = {
        "vocab_size": size,
        "bos_token_id": size - 2,
        "eos_token_id": size - 1,
        "pad_token_id": size - 1,
    }
    configs = {**TINY, "text_encoder": {**TINY["text_encoder"], **text}}
    names = ("unet", "vae", "text_encoder")
    networks = stable_diffusion_files.build_networks(configs)
    params = {
        name: stable_diffusion_files.init_params(network, jax.random.key(i))
        for i, (name, network) in enumerate(zip(names, networks, strict=True))
    }
    stable_diffusion_files.save_diffusers(
        root / "model", configs, params, tokenizer=root / "tokenizer"
    )
    return root / "model"


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """The tiny model as every descriptor needs it: no decoder."""
    from sbir_jax.backbones.frozen import PARTS
    from sbir_jax.backbones.loading import load_backbone

    return load_backbone(tiny_folder, parts=PARTS)


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory):
    """Six classes of filled polygons as photos and their outlines as sketches."""
    import math

    import numpy as np
    from PIL import Image, ImageDraw

    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    for corners, name in enumerate("lens wedge box tent gem ring".split(), start=2):
        for i in range(4):
            turn, radius = rng.uniform(0, 1), rng.uniform(10, 14)
            points = [
                (
                    16 + radius * math.cos(2 * math.pi * k / corners + turn),
                    16 + radius * math.sin(2 * math.pi * k / corners + turn),
                )
                for k in range(corners)
            ]
            colours = [tuple(int(c) for c in rng.integers(0, 255, 3)) for _ in "ab"]
            photo = Image.new("RGB", (32, 32), colours[0])
            ImageDraw.Draw(photo).polygon(points, fill=colours[1])
            sketch = Image.new("RGB", (32, 32), "white")
            ImageDraw.Draw(sketch).polygon(points, outline="black")
            for modality in ("photo", "sketch"):
                (root / modality / name).mkdir(parents=True, exist_ok=True)
            photo.save(root / "photo" / name / f"{name}{i}.png")
            sketch.save(root / "sketch" / name / f"{name}{i}-1.png")
    return root
