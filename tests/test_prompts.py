import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.adapters.prompts import (
    PromptConfig,
    add_frame,
    count,
    frame_image,
    init_prompts,
)


def prompts_of(size, border=0):
    return init_prompts(PromptConfig(border=border), size, jnp.ones((77, 4)))


LATENT = PromptConfig(space="latent")


@pytest.mark.parametrize("size, width", [(512, 16), (768, 24), (64, 2), (8, 1)])
def test_border_is_16_px_at_512_and_scales(size, width):
    assert PromptConfig().width(size) == width


@pytest.mark.parametrize("size, factor, cells", [(512, 8, 2), (64, 4, 1), (256, 8, 1)])
def test_a_border_in_latent_space_is_as_wide_and_never_nothing(size, factor, cells):
    side = size // factor
    prompts = init_prompts(LATENT, size, jnp.ones((77, 4)), (side, side, 5))
    assert prompts.visual is None
    for frame in prompts.latent.values():
        picture = frame_image(jax.tree.map(jnp.ones_like, frame))
        assert picture.shape == (side, side, 5)
        assert picture.sum() == 5 * (side**2 - (side - 2 * cells) ** 2)
    wide = PromptConfig(border=3 * factor, space="latent")
    assert wide.width(size, factor) == 3


def test_number_of_trained_scalars_is_that_of_a_border():
    # 2 modalities, 2 * 3 * 16 * (512 + 512 - 32) each, and the text.
    assert count(prompts_of(512)) == 2 * 95_232 + 77 * 4


def test_fresh_prompts_change_nothing():
    image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    frame = prompts_of(32).visual["sketch"]
    np.testing.assert_array_equal(add_frame(image, frame), image)


def test_frame_covers_the_border_and_only_it():
    ones = jax.tree.map(jnp.ones_like, prompts_of(32, border=3).visual["photo"])
    picture = np.asarray(frame_image(ones))
    assert picture.shape == (32, 32, 3)
    assert picture.sum() == 3 * (32 * 32 - 26 * 26)
    assert not picture[3:-3, 3:-3].any()


def test_every_strip_lies_where_its_name_says():
    frame = prompts_of(32).visual["photo"]
    for name, place in {
        "top": (0, 16),
        "bottom": (31, 16),
        "left": (16, 0),
        "right": (16, 31),
    }.items():
        lit = {**frame, name: jnp.ones_like(frame[name])}
        where = np.argwhere(np.asarray(frame_image(lit))[..., 0])
        assert place in {(int(y), int(x)) for y, x in where}
        assert len(where) == frame[name].shape[0] * frame[name].shape[1]


def test_scale_multiplies_the_frame():
    ones = jax.tree.map(jnp.ones_like, prompts_of(32).visual["photo"])
    framed = add_frame(jnp.zeros((1, 32, 32, 3)), ones, scale=0.5)
    assert framed[0, 0, 0, 0] == 0.5 and framed[0, 16, 16, 0] == 0.0


def test_frame_of_another_size_is_refused():
    frame = prompts_of(32).visual["photo"]
    with pytest.raises(ValueError, match=r"\(32, 32, 3\) .* these are \(64, 64, 3\)"):
        add_frame(jnp.zeros((1, 64, 64, 3)), frame)


@pytest.mark.parametrize("border", [16, 40, -1])
def test_border_that_fills_the_image_is_refused(border):
    with pytest.raises(ValueError, match=f"prompt.border is {border}"):
        PromptConfig(border=border).width(32)


def test_impossible_frames_in_latent_space_are_refused():
    with pytest.raises(ValueError, match=r"space is 'text'; give pixel or latent"):
        PromptConfig(space="text")
    with pytest.raises(ValueError, match="needs the shape of the latents"):
        init_prompts(LATENT, 32, jnp.ones((77, 4)))
    # 14 px are 4 cells, which is all there is; 12 px are one too many already for 6.
    with pytest.raises(ValueError, match=r"border is 14 px.* give 1 to 12"):
        PromptConfig(border=14, space="latent").width(32, 4)
