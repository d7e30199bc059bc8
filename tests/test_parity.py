"""The networks against PyTorch: recorded values always, live where torch is there."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.diffusers_files import TOYBOX
from sbir_jax.backbones.distilled_encoder import TOYBOX_TINY
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.stable_diffusion_files import save_diffusers
from sbir_jax.models.unet_names import attention_names, tap_names
from sbir_jax.types import TextStates

ROOT = pathlib.Path(__file__).resolve().parent
GOLDEN = ROOT / "golden"
LIMIT = 1e-4


def assert_near(ours, theirs, limit=LIMIT):
    """Every array within `limit` of the largest value of the other side's."""
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        error = np.abs(np.asarray(ours[name]) - value).max() / np.abs(value).max()
        assert error <= limit, f"{name}: {error:.2e}"


def run_unet(backbone, latents, t, context):
    """Every feature and map, named as the recorder names them."""
    config = backbone.backbone.unet.config
    # Compiled without optimisation, since it runs once: half the time altogether.
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    run = jax.jit(
        backbone.backbone.unet.apply, static_argnums=(4, 5), compiler_options=options
    )
    readout = run(
        {"params": backbone.frozen["unet"]},
        jnp.asarray(latents),
        jnp.asarray(t),
        jnp.asarray(context),
        tap_names(config),
        attention_names(config),
    )
    found = {f"tap/{name}": value for name, value in readout.taps.items()}
    return found | {f"map/{name}": value for name, value in readout.maps.items()}


def run_vae(backbone, images, latents):
    variables = {"params": backbone.frozen["vae"]}
    encode = jax.jit(functools.partial(backbone.backbone.vae.apply, method="encode"))
    decode = jax.jit(functools.partial(backbone.backbone.vae.apply, method="decode"))
    mean, logvar = encode(variables, jnp.asarray(images))
    decoded = decode(variables, jnp.asarray(latents))
    return {"mean": mean, "logvar": logvar, "decoded": decoded}


def tiny_latents(source, encoder, images):
    """What a distilled encoder makes of images, as the UNet is given it."""
    parts = ("vae_encoder",)
    backbone = load_backbone(source, parts=parts, encoder=str(encoder))
    found = backbone.backbone.encode_image(backbone.frozen, jnp.asarray(images))
    return {"latents": found}


def run_text(backbone, tokens):
    run = jax.jit(backbone.backbone.text_encoder.apply)
    return run({"params": backbone.frozen["text_encoder"]}, jnp.asarray(tokens))


@functools.cache
def golden(kind):
    with np.load(GOLDEN / f"{kind}.npz") as recorded:
        return load_backbone(GOLDEN / kind), dict(recorded)


def unet_golden(recorded):
    """The recorded inputs and outputs of the UNet: two timesteps, twice as wide."""
    values = {
        name.removeprefix("unet/"): value
        for name, value in recorded.items()
        if name.startswith("unet/")
    }
    # Recorded were the maps of cross-attention only: the others are large.
    values = {f"{k}.cross" if k[:4] == "map/" else k: v for k, v in values.items()}
    return {name: values.pop(name) for name in ("latents", "t", "context")}, values


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_unet_gives_the_recorded_features_and_maps(kind):
    backbone, recorded = golden(kind)
    inputs, values = unet_golden(recorded)
    found = run_unet(backbone, **inputs)
    assert_near({name: found[name] for name in values}, values)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_autoencoder_gives_the_recorded_moments_and_image(kind):
    backbone, recorded = golden(kind)
    ours = run_vae(backbone, recorded["images"], recorded["latents"])
    assert_near(ours, {name: recorded[name] for name in ours})


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_text_encoder_gives_the_recorded_states(kind):
    backbone, recorded = golden(kind)
    states = run_text(backbone, recorded["tokens"])
    assert_near({"states": states}, {"states": recorded["states"]})


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_distilled_encoder_gives_the_recorded_latents(kind):
    with np.load(GOLDEN / "tiny.npz") as recorded:
        ours = tiny_latents(GOLDEN / kind, GOLDEN / "tiny", recorded["images"])
        assert_near(ours, {"latents": recorded["latents"]})


@functools.cache
def oracle():
    """The recorder as a module, or a skip without PyTorch."""
    for name in ("torch", "diffusers"):
        pytest.importorskip(name)
    path = ROOT.parent / "tools" / "make_golden.py"
    spec = importlib.util.spec_from_file_location("make_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What PyTorch's packages warn of is not ours to mend.
live = pytest.mark.filterwarnings("ignore")

# Between them: three and two levels, one layer, attention first and attention last,
# the other order of the sinusoids, and channels that change twice in a decoder.
VARIANTS = {
    "three levels": {
        "block_out_channels": (8, 12, 24),
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        "attention_head_dim": (1, 3, 4),
        "layers_per_block": 1,
    },
    "two levels": {
        "block_out_channels": (16, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-3,
        "use_linear_projection": True,
    },
}


@live
@pytest.mark.parametrize("variant", VARIANTS)
def test_live_unet_of_another_shape(variant, tmp_path):
    make = oracle()
    unet = make.small_unet(1, cross_attention_dim=16, **VARIANTS[variant])
    text = make.small_text(1, hidden_size=16)
    scheduler = make.DDIMScheduler()
    make.save(tmp_path, unet, make.small_vae(1), text, scheduler)
    inputs = make.unet_inputs(unet, 2, 8, 4, [0, 999], seed=2)
    theirs = make.record_unet(unet, **inputs)
    assert_near(run_unet(load_backbone(tmp_path), **inputs), theirs)


@live
@pytest.mark.parametrize("kind", ["sd1", "sd2", "toybox"])
def test_live_checkpoint_in_both(kind):
    make = oracle()
    folder = TOYBOX if kind == "toybox" else GOLDEN / kind
    if not folder.is_dir():
        pytest.skip("the Toybox model is not there")
    load = {"local_files_only": True, "torch_dtype": make.torch.float32}
    unet = make.UNet2DConditionModel.from_pretrained(folder / "unet", **load)
    vae = make.AutoencoderKL.from_pretrained(folder / "vae", **load)
    text = make.CLIPTextModel.from_pretrained(folder / "text_encoder", **load)
    for network in (unet, vae, text):
        network.eval().requires_grad_(False)
    ours = load_backbone(folder)
    side = 2 * ours.backbone.unet.config.stride
    inputs = make.unet_inputs(unet, 1, side, 2 * side, 500)
    assert_near(run_unet(ours, **inputs), make.record_unet(unet, **inputs))
    generator = np.random.default_rng(3)
    pixels = 4 * ours.backbone.vae_factor
    images = generator.uniform(-1, 1, (1, pixels, pixels, 3)).astype("f")
    latents = generator.normal(size=(1, 4, 4, unet.config.in_channels)).astype("f")
    theirs = make.record_vae(vae, images, latents)
    assert_near(run_vae(ours, images, latents), theirs)
    tokens = generator.integers(0, text.config.vocab_size, (2, 10))
    states = make.record_text(text, tokens)
    assert_near({"states": run_text(ours, tokens)}, {"states": states})


@live
@pytest.mark.parametrize("kind", ["sd1", pytest.param("sd2", marks=pytest.mark.slow)])
def test_live_residuals_of_adapters(kind):
    """A T2I adapter adds at each level's last layer, a ControlNet at each skip."""
    make = oracle()
    loaded, recorded = golden(kind)
    inputs, values = unet_golden(recorded)
    described, rng = loaded.backbone, np.random.default_rng(5)

    def residuals(names):
        shapes = [values[f"tap/{n.removeprefix('skip.')}"].shape for n in names]
        drawn = [rng.normal(size=shape).astype("f") for shape in shapes]
        return dict(zip(names, drawn, strict=True))

    skips = residuals([n for n in described.residual_names if n.startswith("skip.")])
    middle = residuals(["mid.out"])
    # The last level has no downsampler, and there the skip is the state itself.
    adapter = residuals([f"down.{i}.attn.1" for i in range(3)] + ["down.3.res.1"])
    unet = make.UNet2DConditionModel.from_pretrained(GOLDEN / kind / "unet")
    theirs = make.record_residuals(
        unet.float().eval(), **inputs,
        adapter=[*adapter.values()], skips=[*skips.values()], middle=middle["mid.out"],
    )  # fmt: skip
    text = TextStates(jnp.asarray(inputs["context"]))
    run = jax.jit(described.predict)
    ours = {
        name: run(
            loaded.frozen,
            jnp.asarray(inputs["latents"]),
            jnp.asarray(inputs["t"]),
            text,
            residuals={k: jnp.asarray(v) for k, v in given.items()},
        )
        for name, given in {"adapter": adapter, "control": skips | middle}.items()
    }
    assert_near(ours, theirs)


@live
def test_live_distilled_encoder_of_another_shape(tmp_path):
    make = oracle()
    tiny = make.small_tiny(
        1, encoder_block_out_channels=(6,) * 4, num_encoder_blocks=(0, 1, 3, 3)
    )
    tiny.save_pretrained(tmp_path)
    images = np.random.default_rng(2).uniform(-1, 1, (2, 64, 32, 3)).astype("f")
    theirs = {"latents": make.record_tiny(tiny, images)}
    assert_near(tiny_latents(GOLDEN / "sd1", tmp_path, images), theirs)


@live
def test_live_toyboxs_distilled_encoder():
    """The shipped file has no decoder, so diffusers draws one; its encoder is ours."""
    make = oracle()
    tiny = make.AutoencoderTiny.from_pretrained(TOYBOX_TINY).float().eval()
    images = np.random.default_rng(3).uniform(-1, 1, (1, 64, 64, 3)).astype("f")
    theirs = {"latents": make.record_tiny(tiny, images)}
    assert_near(tiny_latents("toybox", "tiny", images), theirs)


@live
def test_live_diffusers_reads_what_we_write(tmp_path):
    """Written from our parameters, read by diffusers, and the same weights in both."""
    make = oracle()
    backbone, recorded = golden("sd2")
    configs = {
        part: json.loads((GOLDEN / "sd2" / part / "config.json").read_text())
        for part in ("unet", "vae", "text_encoder")
    }
    path = GOLDEN / "sd2" / "scheduler" / "scheduler_config.json"
    configs["scheduler"] = json.loads(path.read_text())
    save_diffusers(tmp_path / "new", configs, backbone.frozen)
    unet = make.UNet2DConditionModel.from_pretrained(tmp_path / "new" / "unet")
    inputs, values = unet_golden(recorded)
    theirs = make.record_unet(unet.eval(), **inputs)
    assert_near({name: theirs[name] for name in values}, values, 1e-5)
    text = make.CLIPTextModel.from_pretrained(tmp_path / "new" / "text_encoder")
    states = make.record_text(text.eval(), recorded["tokens"])
    assert_near({"states": states}, {"states": recorded["states"]}, 1e-5)
    vae = make.AutoencoderKL.from_pretrained(tmp_path / "new" / "vae").eval()
    ours = make.record_vae(vae, recorded["images"], recorded["latents"])
    assert_near(ours, {name: recorded[name] for name in ours}, 1e-5)
