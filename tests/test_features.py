import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from sbir_jax import features
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import PARTS, text_states
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.diffusion import noise_schedule
from sbir_jax.features import TAPS, Recipe

RECIPE = Recipe(TAPS["category"], copies=3)


@pytest.fixture(scope="module")
def parts(tiny):
    """Images, prompts that differ by modality, and the noise bank."""
    key = jax.random.key(0)
    images = jax.random.uniform(key, (2, 32, 32, 3), minval=-1.0)
    prompts = init_prompts(PromptConfig(), 32, jax.random.normal(key, (77, 16)))
    prompts.visual["photo"] = jax.tree.map(lambda x: x + 0.5, prompts.visual["photo"])
    return images, prompts, features.noise_bank(RECIPE, (8, 8, 4))


def describe(tiny, parts, recipe=RECIPE, modality="sketch", context=None):
    images, prompts, bank = parts

    @jax.jit
    def run(params, prompts, images, bank, context):
        return features.describe(
            tiny.backbone, params, prompts, images, modality, bank, recipe, context
        )

    return run(tiny.frozen, prompts, images, bank, context)


def test_unit_length_and_joined_width(tiny, parts):
    found = describe(tiny, parts)
    assert found.shape == (2, 32)  # 16 channels of up.0 and 16 of up.1
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_layers_of_a_task_are_those_that_a_backbone_has():
    levels = tuple(f"up.{i}.{what}" for i in range(4) for what in ("res.0", "out"))
    assert features.default_taps("category", levels) == TAPS["category"]
    assert features.default_taps("fine_grained", levels) == TAPS["fine_grained"]
    assert features.default_taps("category", levels[:6]) == TAPS["category"]
    assert features.default_taps("fine_grained", levels[:6]) == ("up.1.out", "up.2.out")
    blocks = tuple(f"block.{i}{what}" for i in range(5) for what in (".modulated", ""))
    assert features.default_taps("category", blocks) == ("block.2.modulated",)
    assert features.default_taps("category", ("mixed", "out")) == ("out",)


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"jax_default_prng_impl": "rbg"},
        {"jax_threefry_partitionable": False},
        {"jax_enable_x64": True},
    ],
)
def test_noise_bank_is_the_same_under_every_setting_of_jax(setting):
    """Recorded before the generator was named; releases of JAX differ in last bits."""
    plain = np.asarray(features.noise_bank(RECIPE, (8, 8, 4)))
    before = {name: jax.config.values[name] for name in setting}
    try:
        for name, value in setting.items():
            jax.config.update(name, value)
        bank = np.asarray(features.noise_bank(RECIPE, (8, 8, 4)))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert bank.dtype == np.float32
    np.testing.assert_array_equal(bank, plain)
    recorded = [1.0040143, -1.4287928, 0.39848238, -0.21153021]
    recorded += [-0.1344929, -0.11884676, -0.49261057, -0.9791156]
    np.testing.assert_allclose(bank.ravel()[::96], recorded, rtol=1e-6)


def test_noise_bank_is_fixed_and_grows_by_appending():
    few = features.noise_bank(RECIPE, (8, 8, 4))
    many = features.noise_bank(dataclasses.replace(RECIPE, copies=5), (8, 8, 4))
    np.testing.assert_array_equal(few, many[:3])
    other = features.noise_bank(dataclasses.replace(RECIPE, noise_seed=1), (8, 8, 4))
    assert not np.array_equal(few, other)


def test_steps_by_hand(tiny, parts):
    """The chain written out slowly, one image and one copy at a time."""
    images, prompts, bank = parts
    vae, unet = ({"params": tiny.frozen[name]} for name in ("vae", "unet"))
    encode = jax.jit(
        lambda image: tiny.backbone.vae.apply(vae, image[None], method="encode")
    )
    run = jax.jit(
        lambda z, text: tiny.backbone.unet.apply(
            unet, z, 273, text[None], taps=RECIPE.taps
        )
    )
    rows = []
    for image in images:
        latent = encode(image)[0] * tiny.backbone.scaling_factor
        copies = []
        for noise in bank:
            schedule = tiny.backbone.schedule
            noised = noise_schedule.add_noise(schedule, latent, noise[None], 273)
            taps = run(noised, prompts.text).taps
            levels = [np.asarray(taps[name][0]).max(axis=(0, 1)) for name in taps]
            copies.append(
                np.concatenate([level / np.linalg.norm(level) for level in levels])
            )
        mean = np.mean(copies, axis=0)
        rows.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(describe(tiny, parts), rows, atol=2e-5)


def test_modality_chooses_the_frame(tiny, parts):
    gap = jnp.abs(describe(tiny, parts) - describe(tiny, parts, modality="photo"))
    assert float(gap.max()) > 1e-4


def test_a_frame_in_latent_space_is_added_to_what_the_autoencoder_gives(tiny, parts):
    images, prompts, _ = parts
    config = PromptConfig(space="latent")
    framed = init_prompts(config, 32, prompts.text, tiny.backbone.latent_shape(32))
    frame = framed.latent["photo"]
    frame["top"] = frame["top"].at[0, 5, 2].set(1.5)

    @jax.jit
    def encode(params, prompts, images):
        return [
            features.encode_prompted(
                tiny.backbone, params, prompts, images, modality, 2.0
            )
            for modality in ("sketch", "photo")
        ]

    sketch, photo = encode(tiny.frozen, framed, images)
    plain, _ = encode(tiny.frozen, prompts, images)
    np.testing.assert_array_equal(sketch, plain)
    moved = np.zeros((8, 8, 4), np.float32)
    moved[0, 5, 2] = 3.0
    np.testing.assert_allclose(photo - sketch, [moved, moved], atol=1e-6)
    # Of another size: said so, whichever space the frame is in.
    with pytest.raises(ValueError, match=r"\(8, 8, 4\) .* these are \(16, 16, 4\)"):
        encode(tiny.frozen, framed, jnp.zeros((1, 64, 64, 3)))


def test_context_replaces_the_text_prompt(tiny, parts):
    _, prompts, _ = parts
    same = jnp.stack([prompts.text] * 2)
    np.testing.assert_allclose(
        describe(tiny, parts, context=same), describe(tiny, parts), atol=1e-6
    )
    other = describe(tiny, parts, context=same.at[1].set(0.0))
    np.testing.assert_allclose(other[0], describe(tiny, parts)[0], atol=1e-6)
    assert float(jnp.abs(other[1] - describe(tiny, parts)[1]).max()) > 1e-4


@pytest.mark.slow
def test_timestep_and_pooling_count(tiny, parts):
    for change in ({"timestep": 500}, {"pooling": "mean"}):
        other = describe(tiny, parts, dataclasses.replace(RECIPE, **change))
        assert float(jnp.abs(other - describe(tiny, parts)).max()) > 1e-4


def test_cells_cover_every_place_and_none_is_empty():
    for height, width, grid in ((4, 4, 2), (5, 7, 3), (2, 3, 4)):
        count = np.zeros((height, width), int)
        for rows, columns in features.cells(height, width, grid):
            assert count[rows, columns].size
            count[rows, columns] += 1
        assert count.min() >= 1
        if height % grid == width % grid == 0:
            assert count.max() == 1


def test_a_grid_joins_the_pooled_cells_row_by_row():
    maps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6, 3)), jnp.float32)
    cells = np.asarray(maps).reshape(2, 2, 2, 2, 3, 3)
    for pooling, reduce in (("max", np.max), ("mean", np.mean)):
        recipe = dataclasses.replace(RECIPE, pooling=pooling, grid=2)
        expected = reduce(cells, axis=(2, 4)).reshape(2, 12)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(features.pool(maps, recipe), expected, atol=1e-6)


def test_gradient_reaches_every_prompt_leaf_through_autoencoder_and_unet(tiny, parts):
    images, prompts, bank = parts

    def total(prompts):
        sketch, photo = (
            features.describe(
                tiny.backbone, tiny.frozen, prompts, images, modality, bank, RECIPE
            )
            for modality in ("sketch", "photo")
        )
        return jnp.sum(sketch[:, :7]) + jnp.sum(photo[:, 3:9])

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(prompts)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"pooling": "median"}, "recipe.pooling is 'median'; give max or mean"),
        ({"copies": 0}, "recipe.copies is 0"),
        ({"grid": 0}, "recipe.grid is 0"),
        ({"taps": ()}, "recipe.taps is empty"),
    ],
)
def test_bad_recipes_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**{"taps": ("up.0.out",), **bad})


def arithmetic(jaxpr):
    """(operation, types of what goes in) of all that a program computes."""
    for equation in jaxpr.eqns:
        inside = list(jaxprs_in_params(equation.params))
        for part in inside:
            yield from arithmetic(part)
        if not inside:
            given = {variable.aval.dtype.name for variable in equation.invars}
            yield equation.primitive.name, given


def test_in_bfloat16_products_are_and_sums_are_not(tiny_folder, parts):
    """Norms, softmax, noise, pooling and prompts stay float32; kernels do not."""
    images, prompts, bank = parts
    half = load_backbone(
        tiny_folder, taps=RECIPE.taps, parts=PARTS, dtype=jnp.bfloat16, frozen=True
    )

    def run(prompts, params):
        return features.describe(
            half.backbone, params, prompts, images, "photo", bank, RECIPE
        )

    gradient = jax.grad(lambda *given: run(*given).sum())
    found = jax.eval_shape(gradient, prompts, half.frozen)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    traced = jax.make_jaxpr(run)(prompts, half.frozen)
    types: dict[str, set] = {}
    for name, given in arithmetic(traced.jaxpr):
        types[name] = types.get(name, set()) | given
    # The root of norms, the exponential of softmax, the maximum of pooling.
    for name in ("rsqrt", "exp", "reduce_max"):
        assert types[name] == {"float32"}, (name, types[name])
    assert types["conv_general_dilated"] == {"bfloat16"}
    latents = jax.eval_shape(
        lambda x: half.backbone.encode_image(half.frozen, x), images
    )
    assert latents.dtype == jnp.float32
    assert text_states(half, ["a cup"]).dtype == jnp.float32
