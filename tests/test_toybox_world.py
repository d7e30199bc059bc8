"""Toybox: what is drawn must be what was asked for, and the same at every call."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.data.toybox import looks, paint, parts, render, world
from sbir_jax.data.toybox.parts import Dice
from sbir_jax.data.toybox.shapes import SHAPES

SIZE = 32
FLAT = {name: np.array(rgb) / 255 for name, rgb in looks.COLOURS.items()}


@pytest.fixture(scope="module")
def everything():
    """Two things of each category, their photos and one drawing of each."""
    things = [world.instance(c, i) for c in world.CATEGORIES for i in (0, 1)]
    photos = world.render_photos(things, SIZE)
    return things, photos, world.render_sketches(things, [0] * len(things), SIZE)


def test_split_is_disjoint_and_complete():
    sets = [set(s) for s in (world.SEEN, world.UNSEEN, world.NOVEL)]
    assert [len(s) for s in sets] == [24, 16, 8]
    assert set.union(*sets) == set(world.CATEGORIES) and len(world.CATEGORIES) == 48
    assert list(world.CATEGORIES) == sorted(world.CATEGORIES)


def test_unknown_category_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unicorn.*airplane.*windmill"):
        world.instance("unicorn", 0)


@pytest.mark.parametrize("category", world.CATEGORIES)
def test_shapes_fit_the_tables(category):
    for seed in range(100):
        shape = SHAPES[category](Dice(np.random.default_rng(seed)))
        rows, points, slots = parts.pack(shape)
        assert len(slots) <= parts.MAX_PARTS
        assert np.isfinite(rows).all() and np.abs(points).max() <= 2.5
        assert points[:, 1].min() >= -1e-9


def test_too_many_parts_are_refused():
    with pytest.raises(ValueError, match="17 parts, at most 16"):
        parts.pack([parts.ball((0, 0, 0), 1)] * 17)


def test_objects_are_whole_and_large_enough(everything):
    things, photos, _ = everything
    cover = photos.mask.mean((1, 2))
    for thing, share, mask in zip(things, cover, photos.mask, strict=True):
        assert 0.07 <= share <= 0.7, (thing, share)
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not border.any(), f"{thing} is cut off"


def test_mask_and_depth_agree_with_the_photo(everything):
    things, photos, _ = everything
    assert ((photos.depth > 0) == photos.mask).all()
    assert (photos.depth[photos.mask] > 1).all() and photos.depth.max() < 20

    # Without the object the same scene has other colours where the mask says, and
    # nowhere else (but for half-covered pixels, and the shadow that darkens it).
    @jax.jit
    def bare(scene, style):
        empty = render.trace(scene["rows"], jnp.int32(0), scene["camera"], 2 * SIZE)
        key = jax.random.key(style["grain"].astype(jnp.int32))
        return paint.shade(empty, scene["camera"], style, key)

    for i in range(0, len(things), 4):
        thing, mask = things[i], photos.mask[i]
        given = world.stack([world._scene(thing)]), world.stack([world.look(thing)])
        empty = np.asarray(bare(*jax.tree.map(lambda x: x[0], given))).astype(int)
        photo = photos.rgb[i].astype(int)
        assert (np.abs(photo - empty).max(-1)[mask] > 8).mean() > 0.9, thing
        wide = np.pad(mask, 1)
        near = [wide[i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)]
        lit = photo.sum(-1) > empty.sum(-1) + 12
        assert not (lit & ~np.any(near, axis=0)).any(), thing


def test_same_pixels_alone_in_a_batch_and_in_any_order(everything):
    things, photos, sketches = everything
    chosen = [37, 4, 90, 4]
    some = [things[i] for i in chosen]
    again = world.render_photos(some, SIZE)
    np.testing.assert_array_equal(again.rgb, photos.rgb[chosen])
    np.testing.assert_array_equal(again.depth, photos.depth[chosen])
    np.testing.assert_array_equal(again.mask, photos.mask[chosen])
    np.testing.assert_array_equal(
        world.render_sketches(some[:1], [0], SIZE), sketches[chosen[:1]]
    )


def test_another_look_keeps_the_shape_and_another_index_does_not():
    mug = world.instance("mug", 3)
    photos = world.render_photos([mug, mug, world.instance("mug", 4)], SIZE, [0, 1, 0])
    np.testing.assert_array_equal(photos.mask[0], photos.mask[1])
    assert np.abs(photos.rgb[0].astype(int) - photos.rgb[1]).mean() > 5
    assert (photos.mask[0] != photos.mask[2]).mean() > 0.02
    seen = world.render_photos([mug, mug], SIZE, views=[0, 1])
    np.testing.assert_array_equal(seen.rgb[0], photos.rgb[0])
    assert (seen.mask[0] != seen.mask[1]).any()


def test_captions_name_the_true_attributes():
    words, named = set(world.VOCABULARY), 0
    for index in range(400):
        thing = world.instance(world.CATEGORIES[index % 48], index)
        a, text = thing.attributes, world.photo_caption(thing, index)
        assert text == world.photo_caption(thing, index)
        assert thing.category in text.split() and set(text.split()) <= words
        said = [word for word in text.split() if word in FLAT]
        named += bool(said)
        assert set(said) <= {a.colour, a.second}
        patterns = set(text.split()) & {*looks.PATTERNS, "wooden",
                                        *looks.PATTERNS.values()}  # fmt: skip
        own = {a.pattern, looks.PATTERNS.get(a.pattern)}
        assert patterns <= own
        assert re.search(r"\ban [aeiou]|\ba [^aeiou]", text)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
        drawn = world.sketch_caption(thing, index)
        assert set(drawn.split()) <= words and not set(drawn.split()) & set(FLAT)
    assert named > 280


def test_plain_things_have_the_named_colour_in_the_photo():
    right = total = 0
    things = [world.instance(c, 0) for c in ("mug", "banana", "elephant", "hat")]
    dressed = [replace(t, look=k) for t in things for k in range(20)]
    dressed = [t for t in dressed if t.attributes.pattern == "plain"]
    photos = world.render_photos(dressed, SIZE)
    for thing, photo, mask in zip(dressed, photos.rgb, photos.mask, strict=True):
        colour = np.median(photo[mask], axis=0) / 255

        # Light changes brightness more than hue: compare directions, then length.
        def apart(name, colour=colour):
            flat = FLAT[name]
            hue = colour / np.linalg.norm(colour) - flat / np.linalg.norm(flat)
            return np.linalg.norm(hue) + 0.4 * abs(colour.mean() - flat.mean())

        ranked = sorted(FLAT, key=apart)
        right += thing.attributes.colour in ranked[:3]
        total += 1
    assert total > 20 and right / total > 0.85


def test_sketches_are_dark_lines_on_white_near_the_object(everything):
    _, photos, sketches = everything
    ink = sketches.min(-1) < 160
    assert (np.median(sketches, axis=(1, 2, 3)) == 255).mean() > 0.9
    assert (0.02 < ink.mean((1, 2))).all() and (ink.mean((1, 2)) < 0.45).all()
    # A drawing's box lies over the photo's, from about the same pose.
    shared = []
    for mask, lines in zip(photos.mask, ink, strict=True):
        for axis in (0, 1):
            span = np.flatnonzero(mask.any(axis))
            drawn = np.flatnonzero(lines.any(axis))
            common = min(span[-1], drawn[-1]) - max(span[0], drawn[0])
            shared.append(common / (span[-1] - span[0]))
    assert min(shared) > 0.3 and np.mean(shared) > 0.8


def test_drawings_of_one_thing_differ_and_overlap():
    chair = world.instance("chair", 5)
    ink = world.render_sketches([chair] * 4, range(4), SIZE).min(-1) < 160
    for i in range(4):
        for j in range(i):
            both, either = (ink[i] & ink[j]).sum(), (ink[i] | ink[j]).sum()
            assert 0.05 < both / either < 0.9


def test_pretraining_is_fresh_random_access_and_captioned_by_its_own_colours(
    monkeypatch,
):
    monkeypatch.setattr(world, "CHUNK", 6)
    one, two = world.iter_pretraining(5, 2, 2, SIZE)
    again = next(world.iter_pretraining(5, 3, 1, SIZE))
    np.testing.assert_array_equal(two.photos, again.photos)
    np.testing.assert_array_equal(two.sketches, again.sketches)
    assert two.photo_captions == again.photo_captions != one.photo_captions
    assert one.photos.shape == (6 * world.LOOKS, SIZE, SIZE, 3)
    assert len(one.sketches) == len(one.sketch_captions) == 6 * world.HANDS
    # Two hands draw one pose differently.
    assert (one.sketches[0] != one.sketches[1]).mean() > 0.02
    # Photo 4 is look 1 of thing 1 of chunk 2: rendered by itself it is the same.
    number = 2 * 6 + 1
    name = (world.SEEN + world.UNSEEN)[number % 40]
    thing = world.instance(name, world.PRETRAINING_START + number, 5)
    alone = world.render_photos([thing], SIZE, [1]).rgb[0]
    assert np.abs(alone.astype(int) - one.photos[4]).max() <= 2
    assert one.photo_captions[4] == world.photo_caption(replace(thing, look=1))
    words = " ".join(one.photo_captions + two.photo_captions).split()
    assert not set(words) & set(world.NOVEL)
