"""An endless stream of scenes to train a generative model on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import scene as scene_module
from sbir_jax.data.toybox.scenes import words
from sbir_jax.data.toybox.scenes.render import render_scenes
from sbir_jax.data.toybox.scenes.truth import dress, truths

SCENES, LOOKS, HANDS = 64, 3, 2  # per chunk, per scene, per scene


class SceneChunk(NamedTuple):
    """Training data; captions are in the order of the images.

    What is where belongs to scenes, of which there are s: that of photo i is at
    `photo_scene[i]`.
    """

    photos: UInt8[np.ndarray, "n h w 3"]
    photo_captions: list[str]
    photo_scene: Int[np.ndarray, " n"]
    sketches: UInt8[np.ndarray, "m h w 3"]
    sketch_captions: list[str]
    sketch_scene: Int[np.ndarray, " m"]
    depth: Float[np.ndarray, "s h w"]  # scene units along the ray
    instances: UInt8[np.ndarray, "s h w"]  # 0 wall, 1 floor, 2 + number of the thing
    categories: UInt8[np.ndarray, "s h w"]  # 0, 1, 2 + number in `world.CATEGORIES`
    geometry: Float[
        np.ndarray, "s y x 17"
    ]  # `geometry.CHANNELS`, a quarter of the size


def pretraining_scenes(
    seed: int,
    number: int,
    size: int = 64,
    categories: Sequence[str] = world.SEEN + world.UNSEEN,
) -> SceneChunk:
    """Chunk `number` of an endless stream of fresh scenes, at random access.

    SCENES scenes are traced once each, shaded LOOKS times and drawn HANDS times, all
    from one pose. Captions name relations and attributes, those of sketches categories
    and relations.

    Raises: ValueError if the size is no multiple of 16 or a category is unknown.
    """
    start = scene_module.PRETRAINING_START
    scenes = [
        scene_module.draw_scene(i, seed, categories, start=start)
        for i in range(number * SCENES, (number + 1) * SCENES)
    ]
    side = size // world.PLACE
    pictures = render_scenes(scenes, size, range(LOOKS), range(HANDS), side)
    found = truths(scenes, pictures)
    assert pictures.geometry is not None
    photo_captions, sketch_captions = [], []
    for scene, truth in zip(scenes, found, strict=True):
        for k in range(LOOKS):
            dressed, rng = scene.dressed(k), scene.rng("words", 0, k)
            said = words.statement(dress(truth, dressed), rng)
            photo_captions.append(words.caption(said, rng))
        for k in range(HANDS):
            rng = scene.rng("words", 1, k)
            said = words.statement(truth, rng)
            sketch_captions.append(words.caption(said, rng, drawn=True))
    return SceneChunk(
        pictures.photos.reshape(-1, size, size, 3),
        photo_captions,
        np.repeat(np.arange(SCENES), LOOKS),
        pictures.sketches.reshape(-1, size, size, 3),
        sketch_captions,
        np.repeat(np.arange(SCENES), HANDS),
        pictures.depth,
        pictures.instances,
        np.stack([truth.category_map for truth in found]),
        pictures.geometry,
    )
