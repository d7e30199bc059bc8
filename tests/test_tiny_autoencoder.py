"""The distilled encoder: sizes of the real one, layers by hand, configs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.stable_diffusion_files import init_params
from sbir_jax.models.configs import TinyAutoencoderConfig
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder

# The config.json of TAESD for Stable Diffusion 1.x and 2.x as published.
TAESD = {
    "_class_name": "AutoencoderTiny",
    "_diffusers_version": "0.20.0.dev0",
    "act_fn": "relu",
    "decoder_block_out_channels": [64, 64, 64, 64],
    "encoder_block_out_channels": [64, 64, 64, 64],
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3],
    "out_channels": 3,
    "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}
# One channel and two levels, the second with a block.
SMALL = {
    "_class_name": "AutoencoderTiny",
    "encoder_block_out_channels": [1, 1],
    "num_encoder_blocks": [0, 1],
    "latent_channels": 1,
}


def test_full_size_parameters_and_latents():
    network = TinyAutoencoder(TinyAutoencoderConfig.from_json(TAESD))
    (latents, variance), variables = jax.eval_shape(
        lambda: network.init_with_output(
            jax.random.key(0), jnp.zeros((1, 512, 768, 3)), method="encode"
        )
    )
    assert latents.shape == (1, 64, 96, 4) and variance is None
    encoder = variables["params"]["encoder"]
    assert sum(leaf.size for leaf in jax.tree.leaves(encoder)) == 1_222_532
    # One convolution, ten blocks, three strided layers, one convolution.
    assert set(encoder) == {f"layers_{i}" for i in range(15)}
    strided = {name for name, layer in encoder.items() if set(layer) == {"kernel"}}
    assert strided == {"layers_2", "layers_6", "layers_10"}
    assert set(encoder["layers_3"]) == {"conv_0", "conv_2", "conv_4"}


def centre(value, bias=None, inputs=1):
    """A 3x3 kernel that multiplies each pixel, and a bias."""
    kernel = np.zeros((3, 3, inputs, 1), np.float32)
    kernel[1, 1] = value
    layer = {"kernel": jnp.asarray(kernel)}
    return layer if bias is None else layer | {"bias": jnp.full(1, bias, jnp.float32)}


def test_a_network_worked_out_by_hand():
    """From [-1, 1] to [0, 1]; a strided layer takes even pixels; y = relu(x + f(x))."""
    params = {
        "layers_0": centre(1.0, 0.5, inputs=3),  # the sum of the colours, and a half
        "layers_1": centre(2.0),
        "layers_2": {
            "conv_0": centre(1.0, -3.0),
            "conv_2": centre(1.0, 1.0),
            "conv_4": centre(-0.5, -0.75),
        },
        "layers_3": centre(10.0, 1.0),
    }
    images = np.zeros((1, 4, 4, 3), np.float32)
    images[0, 0, 0] = 1.0
    images[0, 2, 2] = -1.0
    images[0, 1, 1] = images[0, 3, 3] = 0.7  # between those that are taken
    network = TinyAutoencoder(TinyAutoencoderConfig.from_json(SMALL))
    latents, _ = network.apply(
        {"params": {"encoder": params}}, jnp.asarray(images), method="encode"
    )

    # White: x = 2 * 3.5 = 7 and 7 - (7 - 3 + 1) / 2 - 0.75 = 3.75; grey: x = 4; black:
    # x = 1, the first activation cuts 1 - 3 to 0 and the last one -0.25.
    wanted = [[38.5, 23.5], [23.5, 1.0]]
    np.testing.assert_allclose(latents[0, ..., 0], wanted, rtol=1e-6)


def test_bfloat16():
    config = TinyAutoencoderConfig(3, (4, 4), (1, 1), 2)
    params = init_params(TinyAutoencoder(config), jax.random.key(0))
    images = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    expected, half = (
        TinyAutoencoder(config, dtype).apply(
            {"params": params}, jnp.asarray(images), method="encode"
        )[0]
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert half.dtype == jnp.bfloat16
    error = jnp.abs(half.astype(jnp.float32) - expected).max()
    assert 0 < error < 0.05 * jnp.abs(expected).max()


@pytest.mark.parametrize("shape", [(1, 5, 4, 3), (1, 4, 0, 3), (1, 4, 4, 1)])
def test_wrong_inputs(shape):
    network = TinyAutoencoder(TinyAutoencoderConfig.from_json(SMALL))
    with pytest.raises(ValueError, match=r"takes 3 channels and multiples of 2 pixels"):
        network.init(jax.random.key(0), jnp.zeros(shape), method="encode")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "'AutoencoderKL', only 'AutoencoderTiny'"),
        ({"act_fn": "silu"}, "act_fn='silu' is not supported"),
        ({"shift_factor": 0.1}, "shift_factor=0.1 is not supported"),
        ({"num_encoder_blocks": [1]}, "num_encoder_blocks has 1 entries"),
        ({"encoder_block_out_channels": [1, 2]}, "only one width for all levels"),
        ({"latent_chanels": 4}, "unknown key 'latent_chanels'"),
    ],
)
def test_configs_we_cannot_follow(change, message):
    with pytest.raises(ValueError, match=message):
        TinyAutoencoderConfig.from_json({**SMALL, **change})


def test_config_of_the_published_one():
    config = TinyAutoencoderConfig.from_json(TAESD)
    assert config == TinyAutoencoderConfig()
    assert config.factor == 8 and config.width == 64 and config.scaling_factor == 1.0
    # What later versions of diffusers write into the same file.
    later = {"block_out_channels": [64] * 4, "shift_factor": 0.0}
    later |= {"upsample_fn": "nearest", "sample_size": 512}
    assert TinyAutoencoderConfig.from_json({**TAESD, **later}) == config
