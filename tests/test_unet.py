"""The UNet: sizes of the real ones, features by name, early exit, maps, configs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.backbones import stable_diffusion_files as files
from sbir_jax.backbones.published_configs import XL
from sbir_jax.backbones.stable_diffusion_files import init_params
from sbir_jax.models.unet import UNet
from sbir_jax.models.unet_config import UNetConfig
from sbir_jax.models.unet_names import (
    ATTENTION_PARTS,
    attention_names,
    places,
    residual_names,
    tap_names,
)

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
# BK-SDM's, and that of segmind's distilled ones, which are of the same shapes.
BK_BASE = {**SD1, "layers_per_block": 1}
BK_SMALL = {**BK_BASE, "mid_block_type": None}
BK_TINY = {
    **BK_SMALL,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
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
    return jax.jit(run, static_argnums=(4, 5, 6), compiler_options=options)


CROSS, SELF = "down.0.attn.0.cross", "down.0.attn.0.self"


def extra(*shape):
    """Keys and values that differ."""
    return normal(*shape), normal(2, *shape)[1]


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
    names = tap_names(unet.config), attention_names(unet.config)
    return run(variables, *inputs, *names)


@pytest.fixture(scope="module")
def all_taps(small):
    """The features where no map is asked for, which attention computes otherwise."""
    unet, variables, inputs = small
    return jitted(unet)(variables, *inputs, tap_names(unet.config), ()).taps


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
    ("config", "total"),
    [
        (BK_BASE, 579_384_964),
        (BK_SMALL, 482_346_884),
        (BK_TINY, 323_384_964),
        (XL["unet"], 2_567_463_684),
    ],
    ids=["BK-SDM-base", "BK-SDM-small", "BK-SDM-tiny", "XL"],
)
def test_full_size_parameters_of_further_kinds(config, total):
    params = files.shapes(UNet, UNetConfig.from_json(config))
    assert count(params) == total
    assert ("mid_block" in params) == bool(config.get("mid_block_type", True))


def test_sd_turbo_has_the_shape_of_2_1():
    """With all the keys that newer configs have, at 512 px."""
    turbo = {
        **SD2,
        "_class_name": "UNet2DConditionModel",
        "addition_embed_type": None,
        "addition_embed_type_num_heads": 64,
        "addition_time_embed_dim": None,
        "attention_type": "default",
        "dropout": 0.0,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "projection_class_embeddings_input_dim": None,
        "reverse_transformer_layers_per_block": None,
        "sample_size": 64,
        "transformer_layers_per_block": 1,
        "upcast_attention": None,
    }
    second = UNetConfig.from_json(SD2)
    assert UNetConfig.from_json(turbo) == dataclasses.replace(second, sample_size=64)


def test_layers_of_each_level_and_transformers_of_each_layer():
    """The shape of SSD-1B: no middle, and depths that differ within a level."""
    config = UNetConfig.from_json(
        XL["unet"]
        | {
            "mid_block_type": None,
            "layers_per_block": [1, 1, 2],
            "transformer_layers_per_block": [1, 2, [4, 1]],
            "reverse_transformer_layers_per_block": [[4, 1, 3], [2, 1], 1],
        }
    )
    names = attention_names(config)
    assert [n for n in names if n.startswith("down") and "cross" in n] == [
        "down.1.attn.0.0.cross",
        "down.1.attn.0.1.cross",
        *(f"down.2.attn.0.{k}.cross" for k in range(4)),
        "down.2.attn.1.cross",
    ]
    assert {n[:4] for n in names} == {"down", "up.0", "up.1"}
    assert "mid.out" in tap_names(config) and "mid.res.0" not in tap_names(config)
    place = places(config)["up.0.attn.2.1.cross"]
    path = ("up_blocks_0", "attentions_2", "transformer_blocks_1")
    assert place == (path, 20)
    assert config.counts == {".conv1.weight": 4 + 7, ".attn2.to_k.weight": 7 + 11}


@pytest.mark.parametrize(
    ("config", "h", "w"), [(SD1, 64, 64), (SD2, 96, 96), (SD1, 64, 128)]
)
def test_full_size_features_and_maps(config, h, w):
    known = UNetConfig.from_json(config)
    found = shapes(config, h, w, tap_names(known), attention_names(known))[1]
    taps, maps = found.taps, found.maps
    assert len(taps) == 49 and len(maps) == 2 * 16
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
        shape = (2, heads[level], *side)
        assert maps[f"{name}.cross"].shape == (*shape, 77), name
        assert maps[f"{name}.self"].shape == (*shape, side[0] * side[1]), name


def test_names_come_in_execution_order(small):
    unet, variables, inputs = small
    attentions = attention_names(unet.config)

    def order(variables, latents, t, context):
        asked = {"taps": (), **dict.fromkeys(ATTENTION_PARTS, attentions)}
        given = {}, {}, {}, None, None  # nothing beside it
        return list(unet.bind(variables)._run(latents, t, context, asked, *given))

    names = []
    jax.eval_shape(lambda *args: names.extend(order(*args)), variables, *inputs)
    known = {"taps": tap_names(unet.config)}
    for what, of_kind in (known | dict.fromkeys(ATTENTION_PARTS, attentions)).items():
        assert tuple(name for kind, name, _ in names if kind == what) == of_kind, what


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
    found = run({"params": params}, *inputs, (tap,), ())
    assert list(found.taps) == [tap] and not found.maps
    np.testing.assert_array_equal(found.taps[tap], all_taps[tap])


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
    mapped = shapes(SD1, 64, 64, (), ("up.1.attn.0.self",))[0]
    assert set(mapped["up_blocks_1"]) == {"resnets_0", "attentions_0"}


def test_maps_are_probabilities_over_tokens(everything):
    for name, value in everything.maps.items():
        assert value.dtype == jnp.float32 and value.min() >= 0
        np.testing.assert_allclose(value.sum(-1), 1.0, atol=1e-6, err_msg=name)


def test_maps_have_the_rows_and_columns_of_the_image(small, everything):
    """A pixel that attends differently shows at its own place in the map."""
    name = "down.0.attn.0.cross"
    found = shapes(SMALL, 4, 8, (), (name,))[1]
    assert not found.taps and found.maps[name].shape == (2, 1, 4, 8, 77)
    unet, variables, (latents, t, context) = small
    run = jitted(unet)
    changed = run(variables, latents.at[:, 0, 7].add(9.0), t, context, (), (name,))
    difference = jnp.abs(changed.maps[name] - everything.maps[name]).sum((0, 1, 4))
    assert jnp.unravel_index(difference.argmax(), difference.shape)[1] >= 6


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_maps_logits_and_extra_keys_are_those_of_plain_attention(small, rows):
    """An einsum over the layers' own projections says what must come out."""
    unet, variables, inputs = small
    shape = (3, 8) if rows is None else (rows, 3, 8)
    kv = {SELF: extra(*shape), CROSS: extra(*shape)}
    names = (SELF, CROSS)
    run = functools.partial(
        unet.apply, capture_intermediates=lambda module, _: "to_" in (module.name or "")
    )
    found, state = run(variables, *inputs, (), names, names, kv)
    layer = state["intermediates"]["down_blocks_0"]["attentions_0"]
    for name, part in ((SELF, "attn1"), (CROSS, "attn2")):
        projected = layer["transformer_blocks_0"][part]
        q, k, v, out = (
            np.asarray(projected[to]["__call__"][0], np.float64)
            for to in ("to_q", "to_k", "to_v", "to_out_0")
        )
        more = [np.broadcast_to(rows, (2, 3, 8)) for rows in kv[name]]
        k, v = (np.concatenate(pair, 1) for pair in zip((k, v), more, strict=True))
        # One head in the outer level.
        logits = np.einsum("bnc,bmc->bnm", q, k) / np.sqrt(8)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        shape = (2, 1, 4, 8, k.shape[1])
        np.testing.assert_allclose(found.logits[name], logits.reshape(shape), atol=1e-5)
        np.testing.assert_allclose(found.maps[name], weights.reshape(shape), atol=1e-6)
        y = np.einsum("bnm,bmc->bnc", weights, v)
        weight = variables["params"]["down_blocks_0"]["attentions_0"]
        weight = weight["transformer_blocks_0"][part]["to_out_0"]
        expected = y @ np.asarray(weight["kernel"]) + np.asarray(weight["bias"])
        np.testing.assert_allclose(out, expected, atol=1e-5)
    # What is handed out does not change what is computed, nor do keys of later layers.
    run = jitted(unet)
    plain = run(variables, *inputs, ("down.0.attn.0",), kv=kv)
    beside = run(variables, *inputs, ("down.0.attn.0",), names, names, kv)
    tap = "down.0.attn.0"
    np.testing.assert_allclose(plain.taps[tap], beside.taps[tap], atol=1e-5)


def test_an_attention_of_its_own_for_each_image(small):
    unet, variables, inputs = small
    run = jitted(unet)
    keys, values = extra(2, 3, 8)
    both = run(variables, *inputs, (), (CROSS,), kv={CROSS: (keys, values)})
    for i in range(2):
        one = run(variables, *inputs, (), (CROSS,), kv={CROSS: (keys[i], values[i])})
        np.testing.assert_allclose(one.maps[CROSS][i], both.maps[CROSS][i], atol=1e-6)


def test_maps_of_several_heads(small, everything):
    """Each head by itself: the logits of the inner level's two heads differ."""
    unet, variables, inputs = small
    name = "mid.attn.0.cross"
    found = jitted(unet)(variables, *inputs, (), (), (name,))
    logits = found.logits[name]
    assert logits.shape == (2, 2, 2, 4, 5)
    assert jnp.abs(logits[:, 0] - logits[:, 1]).max() > 1e-3
    np.testing.assert_allclose(
        jax.nn.softmax(logits, -1), everything.maps[name], atol=1e-6
    )


@pytest.mark.parametrize("place", ["conv_in", "down.0.attn.0", "down.0.out", "mid.out"])
def test_residuals_join_the_running_state(small, all_taps, place):
    unet, variables, inputs = small
    run = jitted(unet)
    residual = normal(*all_taps[place].shape)
    given = {place: residual}
    found = run(variables, *inputs, (place, "out"), residuals=given)
    np.testing.assert_allclose(found.taps[place], all_taps[place] + residual, atol=1e-4)
    assert jnp.abs(found.taps["out"] - all_taps["out"]).max() > 1e-3


def test_one_residual_is_for_all_images(small, all_taps):
    unet, variables, inputs = small
    run, residual = jitted(unet), normal(*all_taps["mid.out"].shape)
    one = {"mid.out": residual[:1]}
    both = {"mid.out": jnp.repeat(residual[:1], 2, 0)}
    np.testing.assert_allclose(
        run(variables, *inputs, residuals=one).taps["out"],
        run(variables, *inputs, residuals=both).taps["out"],
        atol=1e-5,
    )


def test_residuals_of_skips_are_seen_by_the_decoder_only(small, all_taps):
    unet, variables, inputs = small
    run = jitted(unet)
    names = [n for n in residual_names(unet.config) if n.startswith("skip.")]
    encoder = ("conv_in", "down.0.attn.0", "down.0.out", "down.1.res.0")
    assert names == [f"skip.{name}" for name in encoder]
    zeros = {name: 0 * all_taps[name.removeprefix("skip.")] for name in names}
    for name in names:
        given = zeros | {name: zeros[name] + 1}
        found = run(variables, *inputs, ("mid.out", "out"), residuals=given)
        np.testing.assert_allclose(
            found.taps["mid.out"], all_taps["mid.out"], atol=1e-5
        )
        assert jnp.abs(found.taps["out"] - all_taps["out"]).max() > 1e-3, name


def test_gradients_reach_extra_keys_and_residuals(small):
    unet, variables, inputs = small
    run = jax.jit(unet.apply, static_argnums=4)
    given = {CROSS: extra(3, 8)}, {"mid.out": jnp.zeros((1, 2, 4, 16))}

    def loss(kv, residuals):
        found = run(variables, *inputs, ("mid.out",), kv=kv, residuals=residuals)
        return jnp.square(found.taps["mid.out"]).sum()

    found = jax.grad(loss, (0, 1))(*given)
    assert all(jnp.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(found))


def test_one_timestep_serves_the_whole_batch(small):
    unet, variables, (latents, _, context) = small
    run = jitted(unet)
    name = "down.0.res.0"
    one = run(variables, latents, 261, context, (name,)).taps[name]
    each = run(variables, latents, jnp.array([261, 261]), context, (name,)).taps[name]
    other = run(variables, latents, 300, context, (name,)).taps[name]
    np.testing.assert_allclose(one, each, atol=1e-5)
    assert jnp.abs(one - other).max() > 1e-3


def test_bfloat16_follows_float32(small, everything):
    unet, variables, inputs = small
    half = UNet(unet.config, jnp.bfloat16)
    run = jitted(half)
    found = run(variables, *inputs, ("mid.out",), ("mid.attn.0.cross",))
    assert found.taps["mid.out"].dtype == jnp.bfloat16
    assert found.maps["mid.attn.0.cross"].dtype == jnp.float32
    expected = everything.taps["mid.out"]
    error = jnp.abs(found.taps["mid.out"].astype(jnp.float32) - expected).max()
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
    readout, state = run({"params": params}, *inputs, names, ())
    taps, found = readout.taps, state["intermediates"]["down_blocks_0"]
    for x, layer, norm, eps in (
        (taps["conv_in"], "resnets_0", "norm1", 1e-4),
        (taps["down.0.res.0"], "attentions_0", "norm", 1e-6),
    ):
        groups = np.asarray(x, np.float64).reshape(2, 32, 4, 2)
        mean, variance = (
            f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var)
        )
        expected = ((groups - mean) / np.sqrt(variance + eps)).reshape(x.shape)
        if norm == "norm1":  # which goes on to the activation
            expected = expected / (1 + np.exp(-expected))
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
        ({"maps": ("mid.res.0",)}, r"unknown maps \['mid.res.0'\].*'mid.attn.0.self'"),
        ({"logits": ("mid.attn.0",)}, r"unknown logits .*'mid.attn.0.cross'"),
        ({"taps": ()}, "no taps, no maps and nothing else"),
        ({"kv": {"mid": extra(3, 8)}}, r"unknown kv \['mid'\].*'mid.attn.0.cross'"),
        (
            {"residuals": {"out": normal(1, 4, 8, 4)}},
            r"unknown residuals \['out'\].*'skip.conv_in'",
        ),
        (
            {"residuals": {"mid.out": jnp.zeros((2, 4, 8, 16))}},
            r"residuals\['mid.out'\] has shape \(2, 4, 8, 16\); give \(2, 2, 4, 16\)",
        ),
        ({"kv": {CROSS: extra(3, 16)}}, r"keys of shape \(3, 16\).*give both \[e, 8\]"),
        ({"kv": {CROSS: extra(8)}}, r"keys of shape \(8,\) .*give both \[e, 8\]"),
        ({"kv": {CROSS: extra(3, 3, 8)}}, r"\(3, 3, 8\) .*divisor of the 2 images"),
        (
            {"kv": {CROSS: (normal(3, 8), normal(2, 8))}},
            r"keys of shape \(3, 8\) and values of shape \(2, 8\)",
        ),
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
        ({"transformer_layers_per_block": [1] * 3}, "layers_per_block has 3 entries"),
        (
            {"transformer_layers_per_block": [1, [1]]},
            "reverse_transformer_layers_per_block must be given for the decoder",
        ),
        (
            {"reverse_transformer_layers_per_block": [1, [1]]},
            "reverse_trans.* has 1 entries for up_blocks.1, which has 2 layers",
        ),
        ({"layers_per_block": [1, 2, 3]}, "layers_per_block has 3 entries"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type='text_time'"),
        ({"addition_embed_type": "image"}, "addition_embed_type='image' is not"),
        (
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 48,
            },
            "more than 6 times that.*they are 8 and 48",
        ),
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
