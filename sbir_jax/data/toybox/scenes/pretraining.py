"""An endless stream of scenes to train a generative model on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import scene as scene_module
from sbir_jax.data.toybox.scenes import spoken, words
from sbir_jax.data.toybox.scenes.grammar import Statement
from sbir_jax.data.toybox.scenes.render import render_scenes
from sbir_jax.data.toybox.scenes.spoken import Spoken
from sbir_jax.data.toybox.scenes.truth import Truth, dress, truths

SCENES, LOOKS, HANDS = 64, 3, 2  # per chunk, per scene, per scene


class SceneChunk(NamedTuple):
    """Training data; captions are in the order of the images.

    What is where belongs to scenes, of which there are s: that of photo i is at
    `photo_scene[i]`. `false` are captions that name a thing which is not there, or the
    true one again where there is none to name.
    """

    photos: UInt8[np.ndarray, "n h w 3"]
    photo_captions: list[Spoken]
    photo_false: list[Spoken]
    photo_scene: Int[np.ndarray, " n"]
    sketches: UInt8[np.ndarray, "m h w 3"]
    sketch_captions: list[Spoken]
    sketch_false: list[Spoken]
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
    categories: Sequence[str] = world.PRETRAINED,
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
    told: dict[bool, list[tuple[Spoken, Spoken]]] = {False: [], True: []}
    for scene, truth in zip(scenes, found, strict=True):
        for drawn, looks in ((False, LOOKS), (True, HANDS)):
            for k in range(looks):
                dressed = truth if drawn else dress(truth, scene.dressed(k))
                rngs = (scene.rng(name, int(drawn), k) for name in ("words", "false"))
                told[drawn].append(_told(dressed, drawn, categories, *rngs))
    photo_captions, photo_false = zip(*told[False], strict=True)
    sketch_captions, sketch_false = zip(*told[True], strict=True)
    return SceneChunk(
        pictures.photos.reshape(-1, size, size, 3),
        list(photo_captions),
        list(photo_false),
        np.repeat(np.arange(SCENES), LOOKS),
        pictures.sketches.reshape(-1, size, size, 3),
        list(sketch_captions),
        list(sketch_false),
        np.repeat(np.arange(SCENES), HANDS),
        pictures.depth,
        pictures.instances,
        np.stack([truth.category_map for truth in found]),
        pictures.geometry,
    )


def _told(
    truth: Truth,
    drawn: bool,
    categories: Sequence[str],
    rng: np.random.Generator,
    rng_false: np.random.Generator,
) -> tuple[Spoken, Spoken]:
    """A true and a false caption of one picture."""

    def write(said: Statement | None, rng: np.random.Generator) -> str:
        return words.caption(said, rng, drawn) + behind

    said = words.statement(truth, rng)
    behind = "" if drawn else words.backdrop(rng)
    text = write(said, rng)
    if said is None:
        nothing = spoken.of_scene(text, None, truth)
        return nothing, nothing
    said = words.as_written(said, drawn)
    true = spoken.of_scene(text, said, truth)
    false = spoken.false_of_scene(
        said, truth, lambda other: write(other, rng_false), rng_false, categories
    )
    return true, false or true
