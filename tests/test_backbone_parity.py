"""The further kinds of Stable Diffusion against PyTorch's recorded values."""

import functools
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_parity import GOLDEN, assert_near, run_vae, unet_golden

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.types import TextStates

# Whose autoencoder and text encoders a recorded UNet takes.
OTHERS = {"xl": "xl", "bk": "sd1", "ssd": "xl"}


def whole_folder(kind: str, folder: pathlib.Path) -> pathlib.Path:
    """A checkpoint with the recorded UNet of a kind."""
    if OTHERS[kind] == kind:
        return GOLDEN / kind
    shutil.copytree(GOLDEN / OTHERS[kind], folder)
    shutil.rmtree(folder / "unet")
    shutil.copytree(GOLDEN / kind / "unet", folder / "unet")
    return folder


@functools.cache
def recorded(kind):
    with np.load(GOLDEN / f"{kind}.npz") as values:
        return dict(values)


@pytest.mark.parametrize("kind", OTHERS)
def test_unet_gives_the_recorded_features_and_maps(kind, tmp_path):
    loaded = load_backbone(whole_folder(kind, tmp_path / kind))
    backbone = loaded.backbone
    inputs, values = unet_golden(recorded(kind))
    pooled, sizes = (values.pop(name, None) for name in ("text_embeds", "time_ids"))
    values = {name.replace(".cross.cross", ".cross"): v for name, v in values.items()}
    text = TextStates(jnp.asarray(inputs["context"]), None, pooled)
    taps = tuple(name[4:] for name in values if name[:4] == "tap/")
    maps = tuple(name[4:] for name in values if name[:4] == "map/")
    assert set(maps) == {n for n in backbone.attention_names if n.endswith(".cross")}
    # Where there is no middle, diffusers has no module to record it at.
    assert set(backbone.tap_names) - set(taps) == {"mid.out"} - set(taps)
    run = jax.jit(
        functools.partial(backbone.read, taps=taps, maps=maps),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    found = run(loaded.frozen, inputs["latents"], inputs["t"], text)
    ours = {f"tap/{name}": value for name, value in found.taps.items()}
    ours |= {f"map/{name}": value for name, value in found.maps.items()}
    assert_near(ours, values)
    if sizes is not None:
        np.testing.assert_array_equal(sizes[0], [64, 128, 0, 0, 64, 128])


def test_autoencoder_of_xl_gives_the_recorded_moments_and_image():
    loaded, values = load_backbone(GOLDEN / "xl"), recorded("xl")
    ours = run_vae(loaded, values["images"], values["latents"])
    assert_near(ours, {name: values[name] for name in ours})
    assert loaded.backbone.scaling_factor == 0.13025


def test_text_encoders_of_xl_give_the_recorded_states():
    loaded, values = (
        load_backbone(GOLDEN / "xl", parts=("text_encoder",)),
        recorded("xl"),
    )
    run = jax.jit(loaded.backbone.encode_text)
    found = run(loaded.frozen, np.stack([values["tokens"]] * 2, axis=1))
    ours = {"states": found.states, "pooled": found.pooled}
    assert_near(ours, {name: values[name] for name in ours})
    np.testing.assert_array_equal(found.mask.sum(1), 8)
