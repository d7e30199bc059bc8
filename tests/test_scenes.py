"""Scenes: what stands where, what the picture shows of it, and edge cases."""

import ast
import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.data.toybox import render as single
from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import pretraining, words
from sbir_jax.data.toybox.scenes import render as scene_render
from sbir_jax.data.toybox.scenes.render import FIRST, FLOOR, WALL, render_scenes
from sbir_jax.data.toybox.scenes.scene import ASPECTS, Placed, Scene, draw_scene
from sbir_jax.data.toybox.scenes.truth import FALSE, TRUE, truths
from tools import check_scenes

SIZE = 32


def standing(category, index, at, scale=0.7, yaw=0.0, on=None, height=0.0):
    origin = (float(at[0]), height, float(at[1]))
    return Placed(world.instance(category, index), origin, yaw, scale, on)


@pytest.fixture(scope="module")
def some():
    """Eight scenes, their pictures and their truths."""
    scenes = [draw_scene(i) for i in range(8)]
    pictures = render_scenes(scenes, SIZE, looks=(0, 1), hands=(0, 1))
    return scenes, pictures, truths(scenes, pictures)


def test_scene_follows_from_its_numbers_and_from_each_of_them():
    assert draw_scene(3) == draw_scene(3)
    others = [
        draw_scene(4), draw_scene(3, seed=1), draw_scene(3, categories=world.SEEN),
        draw_scene(3, start=2**29), draw_scene(3, aspect="4:3"),
    ]  # fmt: skip
    assert all(other != draw_scene(3) for other in others)
    assert others[-1].things == draw_scene(3).things
    named = {
        p.thing.category
        for i in range(40)
        for p in draw_scene(i, 0, world.NOVEL).things
    }
    assert named == set(world.NOVEL)


def test_all_numbers_of_things_and_stacks_occur():
    scenes = [draw_scene(i) for i in range(60)]
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    assert sum(any(p.on is not None for p in s.things) for s in scenes) >= 4


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: draw_scene(0, aspect="3:2"), "'3:2'; choose from 1:1, 4:3, 16:9"),
        (lambda: draw_scene(-1), "index must not be negative, got -1"),
        (lambda: draw_scene(0, categories=("mugg",)), "no category 'mugg'"),
        (lambda: draw_scene(0).shape(40), "multiple of 16 pixels, got 40"),
        (lambda: draw_scene(0).shape(0), "multiple of 16 pixels, got 0"),
        (lambda: render_scenes([]), "one aspect are rendered together, got no scenes"),
        (
            lambda: render_scenes([draw_scene(0), draw_scene(0, aspect="4:3")]),
            "got 1:1, 4:3",
        ),
    ],
)
def test_wrong_input_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("first", range(0, 90, 30))
def test_things_stand_apart_and_are_framed_whole(first):
    for index in range(first, first + 30):
        scene = draw_scene(index, aspect=list(ASPECTS)[index % 3])
        assert not list(check_scenes.place_faults(scene))
        camera, tall = scene.camera(), float(ASPECTS[scene.aspect])
        x, y, forward = camera["axes"] @ (scene.points - camera["eye"]).T
        u = camera["focal"] * x / forward + camera["shift"][0]
        v = -camera["focal"] * y / forward + camera["shift"][1]
        assert np.abs(u).max() < 1 and np.abs(v).max() < tall


def test_no_surface_point_of_a_thing_is_inside_another():
    """By the distances that are marched, not by the footprints."""
    distance = jax.jit(single.distance)
    for index in range(24):
        scene = draw_scene(index)
        for placed in scene.things:
            rows, _, slots = world.shape(placed.thing)
            for other in scene.things:
                if other == placed:
                    continue
                away = (other.points - np.array(placed.origin)) @ placed.turn
                own = jnp.asarray((away / placed.scale).T)
                wide = jnp.pad(own, ((0, 0), (0, 1024 - own.shape[1])), mode="edge")
                reach = distance(rows.astype(np.float32), len(slots), *wide)
                assert reach.min() > -0.03, (index, placed.thing, other.thing)


def test_picture_is_the_same_alone_and_in_a_batch(some):
    scenes, pictures, _ = some
    again = render_scenes([scenes[5], scenes[2]], SIZE, looks=(1, 0), hands=(1, 0))
    for name in ("photos", "sketches"):
        np.testing.assert_array_equal(
            getattr(again, name)[:, ::-1], getattr(pictures, name)[[5, 2]]
        )
    for name in ("depth", "instances", "visible"):
        np.testing.assert_array_equal(
            getattr(again, name), getattr(pictures, name)[[5, 2]]
        )


def test_looks_and_hands_differ_and_geometry_stays(some):
    scenes, pictures, _ = some
    assert pictures.photos.shape == pictures.sketches.shape == (8, 2, SIZE, SIZE, 3)
    for photos, sketches in zip(pictures.photos, pictures.sketches, strict=True):
        assert np.abs(photos[0].astype(int) - photos[1]).mean() > 5
        assert (sketches[0] != sketches[1]).mean() > 0.02
    assert np.median(pictures.sketches) == 255
    bare = render_scenes(scenes, SIZE, looks=())
    assert bare.photos.shape == (8, 0, SIZE, SIZE, 3) == bare.sketches.shape
    np.testing.assert_array_equal(bare.instances, pictures.instances)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_pixels_ids_boxes_and_depth_agree_in_every_aspect(aspect):
    scenes = [draw_scene(i, seed=2, aspect=aspect) for i in range(8)]
    pictures = render_scenes(scenes, SIZE, looks=())
    height = {"1:1": 32, "4:3": 24, "16:9": 18}[aspect]
    assert pictures.depth.shape == (8, height, SIZE) == pictures.instances.shape
    for scene, truth in zip(scenes, truths(scenes, pictures), strict=True):
        assert not list(check_scenes.pixel_faults(scene, truth))


def test_wide_photos_and_sketches_show_the_things_where_they_are():
    scenes = [draw_scene(i, seed=2, aspect="16:9") for i in range(8)]
    pictures = render_scenes(scenes, SIZE, looks=(0,), hands=(0,))
    assert pictures.photos.shape == (8, 1, 18, SIZE, 3) == pictures.sketches.shape
    ink = pictures.sketches[:, 0].min(-1) < 128
    there = pictures.instances >= FIRST
    assert ink.any() and (ink & there).sum() > 0.5 * ink.sum()
    edge = there[:, :, 1:] != there[:, :, :-1]
    change = np.abs(np.diff(pictures.photos[:, 0].astype(int), axis=2)).sum(-1)
    assert change[edge].mean() > 2 * change[~edge].mean()


def test_larger_pictures_show_the_same(some):
    scenes, pictures, _ = some
    large = render_scenes(scenes[:2], 2 * SIZE, looks=())
    same = large.instances[:, ::2, ::2] == pictures.instances[:2]
    assert same.mean() > 0.95
    np.testing.assert_allclose(large.visible, pictures.visible[:2], atol=0.05)


def test_a_thing_alone_has_the_geometry_of_its_own_picture():
    thing = world.instance("teapot", 3)
    scene = Scene((Placed(thing, (0.0, 0.0, 0.0), 0.0, 1.0),), 0)
    traced = render_scenes([scene], SIZE, looks=())
    rows, _, slots = world.shape(thing)
    camera = jax.tree.map(np.float32, scene.camera())
    trace = jax.jit(single.trace, static_argnums=3)
    buffers = trace(rows.astype(np.float32), jnp.int32(len(slots)), camera, 2 * SIZE)
    own = np.asarray(buffers.part).reshape(SIZE, 2, SIZE, 2) >= 0
    mask = traced.instances[0] == FIRST
    assert (mask == (own.sum((1, 3)) >= 2)).mean() > 0.99
    whole = own.all((1, 3))
    depth = np.asarray(buffers.depth).reshape(SIZE, 2, SIZE, 2).mean((1, 3))
    np.testing.assert_allclose(traced.depth[0][whole], depth[whole], atol=2e-2)


def test_depth_is_where_the_surface_is(some):
    """No thing is nearer along a ray than its depth, and one is there."""
    scenes, pictures, _ = some
    for scene, depth, instances in zip(
        scenes, pictures.depth, pictures.instances, strict=True
    ):
        geometry = jax.tree.map(jnp.asarray, scene_render._placed(scene))
        geometry = jax.tree.map(lambda x: x.astype(jnp.float32), geometry)
        rays = np.asarray(single.view(geometry["camera"], instances.shape))
        eye = np.asarray(geometry["camera"]["eye"])[:, None, None]
        inner = np.ones_like(instances, bool)
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= instances == np.roll(instances, step, axis)
        on = (instances >= FIRST) & inner
        distance = jax.jit(lambda p, g=geometry: scene_render._distance(g, *p))
        at = np.abs(np.asarray(distance(eye + depth * rays)))
        assert np.quantile(at[on], 0.9) < 0.03
        for share in (0.5, 0.8, 0.9, 0.95):
            before = np.asarray(distance(eye + share * depth * rays))
            assert (before[inner] > -0.02).all()


def test_another_thing_only_darkens_the_floor():
    base = Scene((standing("bottle", 1, (0, 0)), standing("mug", 1, (1.2, 0))), 0)
    both = render_scenes([base], SIZE, looks=(0, 1), hands=(0, 1))
    # The same camera and room, with the mug's parts gone.
    geometry = scene_render._placed(base)
    geometry["things"]["count"][1] = 0
    looks = world.stack(scene_render._styles([base, base.dressed(1)]))
    hands = world.stack([scene_render._hand(base, k) for k in (0, 1)])
    batch = [
        world.stack([item] * scene_render.BATCH) for item in (geometry, looks, hands)
    ]
    alone = scene_render._render(*batch, (SIZE, SIZE), None)[0]
    floor = both.instances[0] == FLOOR
    change = both.photos[0, 0].astype(int) - np.asarray(alone)[0, 0].astype(int)
    near = np.zeros_like(floor)
    near[1:-1, 1:-1] = floor[:-2, 1:-1] & floor[2:, 1:-1] & floor[1:-1, :-2]
    near[1:-1, 1:-1] &= floor[1:-1, 2:] & floor[1:-1, 1:-1]
    assert change[near].max() <= 2 and (change[near].min(-1) < -25).sum() > 5


def test_thing_hidden_over_80_percent_is_neither_said_nor_denied():
    front = standing("house", 1, (0, 1.2), 1.0)
    scene = Scene((front, standing("mug", 1, (0, -0.6), 0.5)), 0)
    (truth,) = truths([scene], render_scenes([scene], SIZE, looks=()))
    assert truth.visible[0] == 1 and truth.visible[1] < 0.2
    rng = np.random.default_rng(0)
    said = words.refer(truth, rng)
    assert said and all(reference.thing == 0 for reference in said)
    mug = words.Noun("mug")
    assert words.Statement((mug,)).holds(truth) not in (TRUE, FALSE)
    for _ in range(20):
        text = words.statement(truth, rng).text
        assert "mug" not in text and "house" in text


def test_thing_cut_by_the_frame_is_told():
    things = standing("mug", 1, (-1, 0)), standing("hat", 1, (1, 0))
    scene = Scene(things, 0, zoom=1.6)
    (truth,) = truths([scene], render_scenes([scene], SIZE, looks=()))
    assert not truth.inside.all()
    cut = next(i for i in np.flatnonzero(~truth.inside) if truth.masks()[i].any())
    x0, y0, x1, y1 = truth.boxes[cut]
    assert min(x0, y0) == 0 or max(x1, y1) == SIZE
    faults = list(check_scenes.pixel_faults(scene, truth))
    assert faults == ["a thing is cut by the frame"]


def test_scene_of_one():
    scene = Scene((standing("sofa", 2, (0, 0)),), 0)
    (truth,) = truths([scene], render_scenes([scene], SIZE, looks=()))
    assert all((table == FALSE).all() for table in truth.relations.values())
    rng = np.random.default_rng(0)
    kinds = {reference.kind for reference in words.refer(truth, rng)}
    assert kinds == {"name", "attribute"}
    said = words.statement(truth, rng)
    assert len(said.nouns) == 1 and not said.relations
    changes = {n.change for n in words.negatives(truth, said, rng)}
    assert "noun" in changes and not changes & {"relation", "swap"}


def test_category_map_and_room(some):
    scenes, _, found = some
    for scene, truth in zip(scenes, found, strict=True):
        names = {FIRST + world.CATEGORIES.index(p.thing.category) for p in scene.things}
        shown = set(np.unique(truth.category_map).tolist())
        assert shown <= names | {WALL, FLOOR} and {WALL, FLOOR} <= shown
        np.testing.assert_array_equal(
            truth.category_map >= FIRST, truth.instances >= FIRST
        )


def test_pretraining_is_fresh_random_access_and_told_by_its_own_truth(monkeypatch):
    monkeypatch.setattr(pretraining, "SCENES", 4)
    monkeypatch.setattr(pretraining, "LOOKS", 2)
    one = pretraining.pretraining_scenes(5, 2, SIZE)
    again = pretraining.pretraining_scenes(5, 2, SIZE)
    other = pretraining.pretraining_scenes(5, 3, SIZE)
    for a, b in zip(one, again, strict=True):
        assert a == b if isinstance(a, list) else (a == b).all()
    assert (one.photos != other.photos).any()
    assert one.photos.shape == (8, SIZE, SIZE, 3) and len(one.photo_captions) == 8
    assert one.sketches.shape == (8, SIZE, SIZE, 3) and len(one.sketch_captions) == 8
    assert one.depth.shape == one.instances.shape == (4, SIZE, SIZE)
    seen = world.SEEN + world.UNSEEN
    scene = draw_scene(4 * 2 + 1, 5, seen, start=2**29)
    alone = render_scenes([scene], SIZE, looks=(0, 1), hands=(0, 1))
    assert one.photo_scene[3] == 1 == one.sketch_scene[3]
    np.testing.assert_array_equal(alone.photos[0, 1], one.photos[3])
    np.testing.assert_array_equal(alone.sketches[0, 1], one.sketches[3])
    np.testing.assert_array_equal(alone.depth[0], one.depth[1])
    told = one.photo_captions + one.sketch_captions + one.photo_false + one.sketch_false
    said = " ".join(caption.text for caption in told).split()
    assert set(said) <= set(words.VOCABULARY) and not set(said) & set(world.NOVEL)


def test_single_things_do_not_depend_on_scenes():
    """The key of their prepared copy reads their own folder, not the one of scenes."""
    folder = importlib.resources.files("sbir_jax.data.toybox")
    for file in folder.iterdir():
        if file.name.endswith(".py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    continue
                assert not any("scenes" in name for name in names), file.name
