"""The UNet: sizes of the real ones, features by name, early exit, maps, configs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones.loading import init_params
from sbir_jax.models.configs import UNetConfig, map_names, tap_names
from sbir_jax.models.unet import UNet

# The config.json of Stable Diffusion 1.5 as published, and of 2.1 at 768 pixels.
SD1 = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SD2 = {
    **SD1,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "sample_size": 96,
    "upcast_attention": True,
    "use_linear_projection": True,
}
SMALL = {
    "sample_size": 8,
    "attention_head_dim": [1, 2],
    "block_out_channels": [8, 16],
    "cross_attention_dim": 6,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


def shapes(config, h, w, taps=("out",), maps=()):
    """Parameters and results for a batch of 2 with 77 tokens, without computing."""
    config = UNetConfig.from_json(config)
    inputs = (
        jax.ShapeDtypeStruct((2, h, w, config.in_channels), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.int32),
        jax.ShapeDtypeStruct((2, 77, config.cross_attention_dim), jnp.float32),
    )
    results, variables = jax.eval_shape(
        lambda *inputs: UNet(config).init_with_output(
            jax.random.key(0), *inputs, taps, maps
        ),
        *inputs,
    )
    return variables["params"], results


def normal(*shape):
    """Standard normal numbers, drawn by numpy, which has nothing to compile."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def jitted(unet, **kwargs):
    """The UNet without optimisation: each program here runs once."""
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    run = functools.partial(unet.apply, **kwargs)
    return jax.jit(run, static_argnums=(4, 5), compiler_options=options)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def small():
    """A small UNet, its variables, and inputs twice as wide as they are high."""
    config = UNetConfig.from_json(SMALL)
    unet = UNet(config)
    variables = {"params": init_params(unet, jax.random.key(1))}
    latents, context = normal(2, 4, 8, 4), normal(2, 5, 6)
    return unet, variables, (latents, jnp.array([3, 801]), context)


@pytest.fixture(scope="module")
def everything(small):
    """All features and maps of the small UNet."""
    unet, variables, inputs = small
    run = jitted(unet)
    names = tap_names(unet.config), map_names(unet.config)
    return run(variables, *inputs, *names)


@pytest.fixture(scope="module")
def all_taps(small):
    """The features where no map is asked for, which attention computes otherwise."""
    unet, variables, inputs = small
    return jitted(unet)(variables, *inputs, tap_names(unet.config), ())[0]


@pytest.mark.parametrize(
    ("config", "total"), [(SD1, 859_520_964), (SD2, 865_910_724)], ids=["1.5", "2.1"]
)
def test_full_size_parameters(config, total):
    params, _ = shapes(config, 64, 64)
    assert count(params) == total
    width = config["cross_attention_dim"]
    down = params["down_blocks_0"]
    attention = down["attentions_1"]["transformer_blocks_0"]["attn2"]
    assert attention["to_k"]["kernel"].shape == (width, 320)
    assert attention["to_out_0"]["bias"].shape == (320,)
    linear = config is SD2
    projection = (320, 320) if linear else (1, 1, 320, 320)
    assert down["attentions_0"]["proj_in"]["kernel"].shape == projection
    shortcut = params["up_blocks_2"]["resnets_0"]["conv_shortcut"]["kernel"]
    assert shortcut.shape == (1, 1, 1920, 640)
    assert params["time_embedding"]["linear_1"]["kernel"].shape == (320, 1280)
    assert "downsamplers_0" not in params["down_blocks_3"]
    assert "attentions_0" not in params["up_blocks_0"]


@pytest.mark.parametrize(
    ("config", "h", "w"), [(SD1, 64, 64), (SD2, 96, 96), (SD1, 64, 128)]
)
def test_full_size_features_and_maps(config, h, w):
    known = UNetConfig.from_json(config)
    _, (taps, maps) = shapes(config, h, w, tap_names(known), map_names(known))
    assert len(taps) == 49 and len(maps) == 16
    table = {
        "conv_in": (1, 320),
        "down.0.attn.1": (1, 320),
        "down.0.out": (2, 320),
        "down.2.out": (8, 1280),
        "down.3.out": (8, 1280),
        "mid.out": (8, 1280),
        "up.0.res.2": (8, 1280),
        "up.0.out": (4, 1280),
        "up.1.attn.2": (4, 1280),
        "up.1.out": (2, 1280),
        "up.2.attn.0": (2, 640),
        "up.2.out": (1, 640),
        "up.3.out": (1, 320),
        "out": (1, 4),
    }
    for name, (scale, channels) in table.items():
        assert taps[name].shape == (2, h // scale, w // scale, channels), name
    heads = known.heads
    for name, level in {"down.1.attn.0": 1, "mid.attn.0": 3, "up.1.attn.2": 2}.items():
        side = (h >> level, w >> level)
        assert maps[name].shape == (2, heads[level], *side, 77), name


def test_names_come_in_execution_order(small):
    unet, variables, inputs = small

    def order(variables, latents, t, context):
        bound = unet.bind(variables)
        return [name for name, *_ in bound._run(latents, t, context, ())]

    names = []
    jax.eval_shape(lambda *args: names.extend(order(*args)), variables, *inputs)
    assert tuple(names) == tap_names(unet.config)


@pytest.mark.parametrize(
    "tap", ["conv_in", "down.0.attn.0", "mid.res.0", "up.1.attn.0"]
)
def test_early_exit_is_bitwise_the_full_run(small, all_taps, tap):
    unet, variables, inputs = small
    part = shapes(SMALL, 4, 8, (tap,))[0]
    assert count(part) < count(variables)
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: _get(variables["params"], path), part
    )
    run = jitted(unet)
    found, maps = run({"params": params}, *inputs, (tap,), ())
    assert list(found) == [tap] and not maps
    np.testing.assert_array_equal(found[tap], all_taps[tap])


def _get(tree, path):
    for entry in path:
        tree = tree[entry.key]
    return tree


def test_early_exit_asks_for_no_later_weights():
    full = shapes(SD1, 64, 64)[0]
    part = shapes(SD1, 64, 64, ("up.1.out",))[0]
    assert set(part) == set(full) - {
        "conv_norm_out",
        "conv_out",
        "up_blocks_2",
        "up_blocks_3",
    }
    assert shapes(SD1, 64, 64, ("conv_in",))[0].keys() == {"conv_in"}
    # A map alone stops the run, too, and does not need what follows it.
    mapped = shapes(SD1, 64, 64, (), ("up.1.attn.0",))[0]
    assert set(mapped["up_blocks_1"]) == {"resnets_0", "attentions_0"}


def test_maps_are_probabilities_over_tokens(everything):
    for name, value in everything[1].items():
        assert value.dtype == jnp.float32 and value.min() >= 0
        np.testing.assert_allclose(value.sum(-1), 1.0, atol=1e-6, err_msg=name)


def test_maps_have_the_rows_and_columns_of_the_image(small, everything):
    """A pixel that attends differently shows at its own place in the map."""
    _, (taps, maps) = shapes(SMALL, 4, 8, (), ("down.0.attn.0",))
    assert not taps and maps["down.0.attn.0"].shape == (2, 1, 4, 8, 77)
    unet, variables, (latents, t, context) = small
    run = jitted(unet)
    name = "down.0.attn.0"
    changed = run(variables, latents.at[:, 0, 7].add(9.0), t, context, (), (name,))
    difference = jnp.abs(changed[1][name] - everything[1][name]).sum((0, 1, 4))
    assert jnp.unravel_index(difference.argmax(), difference.shape)[1] >= 6


def test_one_timestep_serves_the_whole_batch(small):
    unet, variables, (latents, _, context) = small
    run = jitted(unet)
    name = "down.0.res.0"
    one = run(variables, latents, 261, context, (name,))[0][name]
    each = run(variables, latents, jnp.array([261, 261]), context, (name,))[0][name]
    other = run(variables, latents, 300, context, (name,))[0][name]
    np.testing.assert_allclose(one, each, atol=1e-5)
    assert jnp.abs(one - other).max() > 1e-3


def test_bfloat16_follows_float32(small, everything):
    unet, variables, inputs = small
    half = UNet(unet.config, jnp.bfloat16)
    run = jitted(half)
    taps, maps = run(variables, *inputs, ("mid.out",), ("mid.attn.0",))
    assert taps["mid.out"].dtype == jnp.bfloat16
    assert maps["mid.attn.0"].dtype == jnp.float32
    expected = everything[0]["mid.out"]
    error = jnp.abs(taps["mid.out"].astype(jnp.float32) - expected).max()
    assert error < 0.06 * jnp.abs(expected).max()


def test_each_norm_has_its_own_epsilon(small):
    """The config's in residual layers, 1e-6 in transformers, seen on tiny inputs."""
    _, variables, inputs = small
    unet = UNet(UNetConfig.from_json({**SMALL, "norm_eps": 1e-4}))
    params = dict(variables["params"])
    for path in (("conv_in",), ("down_blocks_0", "resnets_0", "conv2")):
        params = _scaled(params, path, 1e-3)
    run = jitted(
        unet, capture_intermediates=lambda module, _: module.name in ("norm", "norm1")
    )
    names = ("conv_in", "down.0.res.0", "down.0.attn.0")
    taps, state = run({"params": params}, *inputs, names, ())
    found = state["intermediates"]["down_blocks_0"]
    for x, layer, norm, eps in (
        (taps[0]["conv_in"], "resnets_0", "norm1", 1e-4),
        (taps[0]["down.0.res.0"], "attentions_0", "norm", 1e-6),
    ):
        groups = np.asarray(x, np.float64).reshape(2, 32, 4, 2)
        mean, variance = (
            f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var)
        )
        expected = ((groups - mean) / np.sqrt(variance + eps)).reshape(x.shape)
        y = found[layer][norm]["__call__"][0]
        np.testing.assert_allclose(y, expected, atol=1e-4)


def _scaled(tree, path, factor):
    """A tree with everything under `path` multiplied."""
    if not path:
        return jax.tree.map(lambda leaf: leaf * factor, tree)
    return {**tree, path[0]: _scaled(tree[path[0]], path[1:], factor)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": ("up.9.out",)}, r"unknown taps \['up.9.out'\].*'mid.attn.0'"),
        ({"maps": ("mid.res.0",)}, r"unknown maps \['mid.res.0'\].*'mid.attn.0'"),
        ({"taps": ()}, "no taps and no maps"),
        ({"latents": (2, 5, 8, 4)}, "5 x 8.*multiples of 2"),
        ({"latents": (2, 4, 0, 4)}, "4 x 0.*multiples of 2"),
        ({"latents": (2, 4, 8, 3)}, "3 channels.*takes 4 and 6"),
        ({"context": (2, 5, 7)}, "context 7.*takes 4 and 6"),
        ({"t": jnp.zeros(3, int)}, r"t has shape \(3,\).*\(2,\)"),
    ],
)
def test_wrong_inputs(small, change, message):
    unet, variables, inputs = small
    arguments = dict(zip(("latents", "t", "context"), inputs, strict=True)) | change
    for name in ("latents", "context"):
        if isinstance(arguments[name], tuple):
            arguments[name] = jnp.zeros(arguments[name])
    with pytest.raises(ValueError, match=message):
        unet.apply(variables, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"down_block_types": ["AttnDownBlock2D"] * 2}, "unknown block 'AttnDown"),
        ({"up_block_types": ["ResnetUpsampleBlock2D"] * 2}, "unknown block 'Resnet"),
        ({"mid_block_type": "UNetMidBlock2D"}, "mid_block_type='UNetMidBlock2D'"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types has 1 entries"),
        ({"attention_head_dim": [8, 8, 8]}, "attention_head_dim has 3 entries"),
        ({"act_fn": "gelu"}, "act_fn='gelu' is not supported, only 'silu'"),
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type='fourier'"),
        ({"only_cross_attention": True}, "only_cross_attention=True"),
        ({"dual_cross_attention": True}, "dual_cross_attention=True"),
        ({"transformer_layers_per_block": [1, 2]}, "transformer_layers_per_block"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type='text_time'"),
        ({"num_attention_heads": 4}, "num_attention_heads=4"),
        ({"chanels": 4}, "unknown key 'chanels'; known are.*block_out_channels"),
        ({"heads": (1, 2)}, "unknown key 'heads'"),
        ({"sample_size": None}, "a value for sample_size is needed"),
    ],
)
def test_configs_we_cannot_follow(change, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig.from_json({**SMALL, **change})


def test_config_reads_the_file_and_fills_in_defaults():
    config = UNetConfig.from_json({"sample_size": 64, "class_embeddings_concat": None})
    assert config.block_out_channels == (320, 640, 1280, 1280)
    assert config.heads == (8, 8, 8, 8) and config.stride == 8
    assert UNetConfig.from_json(SD2).heads == (5, 10, 20, 20)
    assert UNetConfig.from_json(SD1).cross_attention_dim == 768
