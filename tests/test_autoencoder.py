"""The autoencoder: sizes of the real one, moments, padding, configs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.stable_diffusion_files import init_params
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.configs import AutoencoderConfig

# The config.json of Stable Diffusion 1.5's autoencoder as published.
SD1 = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
SMALL = {
    "block_out_channels": [4, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "norm_num_groups": 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


def pixels(*shape):
    """Images of noise, drawn by numpy, which has nothing to compile."""
    generator = np.random.default_rng(0)
    return jnp.asarray(generator.uniform(-1, 1, shape), jnp.float32)


def encoder(vae):
    """`encode` without optimisation: each program here runs once."""
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    run = functools.partial(vae.apply, method="encode")
    return jax.jit(run, compiler_options=options)


@pytest.fixture(scope="module")
def small():
    vae = Autoencoder(AutoencoderConfig.from_json(SMALL))
    return vae, {"params": init_params(vae, jax.random.key(0))}


def test_full_size_parameters_and_latents():
    vae = Autoencoder(AutoencoderConfig.from_json(SD1))

    def run(method, *shape):
        return jax.eval_shape(
            lambda: vae.init_with_output(
                jax.random.key(0), jnp.zeros(shape), method=method
            )
        )

    (mean, logvar), encoder = run("encode", 1, 512, 768, 3)
    image, decoder = run("decode", 1, 64, 96, 4)
    assert mean.shape == logvar.shape == (1, 64, 96, 4)
    assert image.shape == (1, 512, 768, 3)
    assert set(encoder["params"]) == {"encoder", "quant_conv"}
    assert set(decoder["params"]) == {"decoder", "post_quant_conv"}
    leaves = jax.tree.leaves((encoder, decoder))
    assert sum(leaf.size for leaf in leaves) == 83_653_863
    attention = encoder["params"]["encoder"]["mid_block"]["attentions_0"]
    assert set(attention) == {"group_norm", "to_q", "to_k", "to_v", "to_out_0"}
    assert attention["to_q"]["bias"].shape == (512,)


def test_log_variance_is_clipped(small):
    vae, variables = small
    params = dict(variables["params"])
    bias = jnp.array([0.0] * 4 + [-99.0, 99.0, 0.0, 0.0])
    params["quant_conv"] = params["quant_conv"] | {"bias": bias}
    encode = encoder(vae)
    _, logvar = encode({"params": params}, jnp.zeros((1, 4, 4, 3)))
    assert logvar[..., 0].max() == -30.0 and logvar[..., 1].min() == 20.0


def test_moments_are_of_one_image_alone(small):
    vae, variables = small
    encode = encoder(vae)
    images = pixels(3, 8, 4, 3)
    both, alone = encode(variables, images)[0], encode(variables, images[1:2])[0]
    assert both.shape == (3, 4, 2, 4)
    np.testing.assert_allclose(both[1:2], alone, atol=1e-6)


def test_bfloat16(small):
    vae, variables = small
    half = Autoencoder(vae.config, jnp.bfloat16)
    images = pixels(1, 8, 8, 3)
    mean, expected = (encoder(network)(variables, images)[0] for network in (half, vae))
    assert mean.dtype == jnp.bfloat16
    error = jnp.abs(mean.astype(jnp.float32) - expected).max()
    assert error < 0.05 * jnp.abs(expected).max()


@pytest.mark.parametrize(
    ("method", "shape", "message"),
    [
        ("encode", (1, 5, 4, 3), "5 x 4 with 3 channels.*multiples of 2"),
        ("encode", (1, 4, 0, 3), "4 x 0 with 3 channels"),
        ("encode", (1, 4, 4, 1), "1 channels.*takes 3 channels"),
        ("decode", (1, 4, 4, 3), "3 channels.*takes 4"),
    ],
)
def test_wrong_inputs(small, method, shape, message):
    vae, variables = small
    with pytest.raises(ValueError, match=message):
        vae.apply(variables, jnp.zeros(shape), method=method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "unknown block 'Attn"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types has 1 entries"),
        ({"use_quant_conv": "no"}, "use_quant_conv is 'no'"),
        ({"latents_mean": [0.1]}, "latents_mean="),
        ({"latent_chanels": 4}, "unknown key 'latent_chanels'"),
    ],
)
def test_configs_we_cannot_follow(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig.from_json({**SMALL, **change})


def test_config_reads_the_file_and_fills_in_defaults():
    config = AutoencoderConfig.from_json(SD1)
    assert config.factor == 8 and config.scaling_factor == 0.18215
    other = AutoencoderConfig.from_json({**SD1, "scaling_factor": 0.13025})
    assert other.scaling_factor == 0.13025
