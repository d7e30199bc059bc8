"""What the renderer knows of a picture: maps that no photo shows as such.

A photo and a drawing of one thing differ in every pixel and agree in these maps. The
embedded model is asked for them while it learns to remove noise (ours), so that its
features say what is there and not how the picture was made.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.data.toybox.render import Buffers

# Share of a place that the thing covers; depth along the ray, object units from the
# thing's mean; its normal (right, up, towards the viewer); the place in the thing's own
# frame, object units from the floor's centre.
SURFACE = ("cover", "depth", "right", "up", "near", "x", "y", "z")
ORIENTATIONS = 9  # of contours, as histograms of oriented gradients have them
CHANNELS = len(SURFACE) + ORIENTATIONS


def surface(
    buffers: Buffers, camera: dict, side: int
) -> tuple[Float[Array, "{side} {side} 8"], Float[Array, "h w 3"]]:
    """The maps of `SURFACE` and, at the size of the buffers, the normals alone.

    All are 0 where nothing is hit, and means over places: a half-covered one has half.
    """
    hit = (buffers.part >= 0).astype(jnp.float32)
    mean = jnp.sum(buffers.depth * hit) / jnp.maximum(jnp.sum(hit), 1.0)
    towards = camera["axes"] * jnp.array([1.0, 1.0, -1.0])[:, None]
    normals = jnp.einsum("ij,jhw->ihw", towards, buffers.normal) * hit[None]
    depth, position = (buffers.depth - mean) * hit, buffers.position * hit[None]
    maps = jnp.concatenate([hit[None], depth[None], normals, position])
    pixels = maps.shape[-1] // side
    places = maps.reshape(len(maps), side, pixels, side, pixels).mean((2, 4))
    return jnp.moveaxis(places, 0, -1), jnp.moveaxis(normals, 0, -1)


def contours(
    normals: Float[np.ndarray, "n h w 3"], side: int
) -> Float[np.ndarray, "n {side} {side} 9"]:
    """Histograms of the directions in which the surface bends, for each place.

    From normals and not from colours: a shadow or a pattern is no contour.
    """
    from skimage.feature import hog  # slow to import, and only pretraining needs it

    pixels = normals.shape[1] // side
    found = [
        hog(
            image,
            orientations=ORIENTATIONS,
            pixels_per_cell=(pixels, pixels),
            cells_per_block=(1, 1),
            feature_vector=False,
            channel_axis=-1,
        )
        for image in normals
    ]
    return np.stack(found)[:, :, :, 0, 0]
