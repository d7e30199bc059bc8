"""The maps that the renderer gives beside a picture."""

import numpy as np
import pytest

from sbir_jax.data.toybox import geometry, world

SIDE = 16


@pytest.fixture(scope="module")
def chunk():
    return world.pretraining_chunk(0, 7, size=4 * SIDE)


@pytest.fixture(scope="module")
def things(chunk):
    return [
        world.instance(world.CATEGORIES[label], world.PRETRAINING_START + 7 * 64 + i)
        for i, label in enumerate(chunk.categories[:16])
    ]


def test_every_map_is_of_its_thing(chunk, things):
    assert chunk.geometry.shape == (world.CHUNK, SIDE, SIDE, geometry.CHANNELS)
    for thing, caption in zip(
        things, chunk.photo_captions[:: world.LOOKS], strict=False
    ):
        assert thing.category in caption.replace(" ", "")
    cover, depth = chunk.geometry[:16, ..., 0], chunk.geometry[:16, ..., 1]
    photos = world.render_photos(things, 4 * SIDE)
    np.testing.assert_array_equal(photos.rgb, chunk.photos[: 16 * 3 : 3])
    mask = photos.mask.reshape(16, SIDE, 4, SIDE, 4).mean((2, 4))
    assert np.abs(cover - mask).max() < 0.3 and np.abs(cover - mask).mean() < 0.02
    # Depth is from the thing's mean, which the photo's own depth has as well.
    whole = (cover == 1) & (mask == 1)
    checked = np.flatnonzero(whole.sum((1, 2)) > 4)
    assert len(checked) > 8
    for i in checked:
        photo = photos.depth[i] - photos.depth[i][photos.mask[i]].mean()
        own = photo.reshape(SIDE, 4, SIDE, 4).mean((1, 3))
        assert np.abs(depth[i] - own)[whole[i]].mean() < 0.05


def test_what_is_seen_faces_the_viewer(chunk):
    normals = chunk.geometry[..., 2:5]
    whole = chunk.geometry[..., 0] == 1
    assert whole.any()
    assert (np.linalg.norm(normals, axis=-1) < 1.001).all()
    assert (normals[whole][:, 2] > -0.05).all()
    assert not normals[chunk.geometry[..., 0] == 0].any()


def test_things_stand_on_the_floor_of_their_frame(chunk):
    height = chunk.geometry[..., 6]
    assert height.min() > -0.01 and 1 < height.max() < 2.01


def test_contours_tell_directions():
    """A step from left to right has one orientation, the same turned another."""
    normals = np.zeros((2, 16, 16, 3))
    normals[0, :, 8:] = normals[1, 8:] = 1.0
    found = geometry.contours(normals, 4)
    across, down = (found[i].sum((0, 1)) for i in range(2))
    assert across.argmax() != down.argmax()
    assert found[0][:, [0, 3]].sum() == 0  # nothing bends there
    np.testing.assert_allclose(across.max(), down.max(), rtol=0.05)
