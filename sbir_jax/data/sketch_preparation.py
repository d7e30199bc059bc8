"""A drawing as people hand it over, made into black lines on white that fill the sheet.

Models are trained on drawings that are dark, centred and large. People bring chalk on
slate, a doodle in the corner of a screenshot, yellow felt pen, white ink on nothing and
photographs of paper. `prepare` undoes what does not belong to the drawing, in this
order: alpha, polarity and paper, ink, crop, line weight. All of it is ours; no paper
says how queries were cleaned. It concerns queries only, never what an index holds.

A sheet of one colour (files, screenshots) is told from a photographed one, whose
brightness changes from place to place: of the former every shade of the ink is kept, of
the latter only what a local threshold (Sauvola and Pietikainen, Pattern Recognition 33,
2000; `skimage.filters.threshold_sauvola`) takes for ink.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage
from skimage import filters, morphology

from sbir_jax.data import images
from sbir_jax.data.image_files import BadImage

SIDE = 512  # of what comes out: Stable Diffusion's own size
WORK = 640  # longest side while ink is looked for
SHEET = 0.4  # of the pixels have the sheet's colour, or it is no plain sheet
FAINT = 0.06  # of the whole range: less contrast than this is no ink
FAINT_PHOTO = 0.15  # the same on photographed paper, with its grain
COVERED = 0.4  # more ink than this is no drawing on photographed paper, ...
UNEVEN = 0.1  # ... nor is paper that changes more, in brightness or colour, on average
SMALL = 0.6  # ink that spans less of the sheet than this is enlarged ...
LARGE = 0.8  # ... to this
THIN = 0.01  # of the sheet: thinner lines are drawn thicker

Ink = Float[np.ndarray, "h w"]


class NoInk(BadImage):
    """A picture in which nothing is drawn."""


def prepare(source: images.Source, name: str = "") -> UInt8[np.ndarray, "512 512 3"]:
    """The drawing in dark lines on white, upright, centred where it was small.

    A picture that is no drawing, such as a photo, comes back as it is, padded.

    Args:
      source, name: as of `images.decode`.
    Returns: RGB of SIDE x SIDE pixels, grey.
    Raises: BadImage; NoInk for an empty sheet.
    """
    colours = _flattened(source, name)
    ink = _ink(colours)
    if ink is None:
        shown = np.rint(255 * colours).astype(np.uint8)
        return images.decode(shown, SIDE, images.FIT["sketch"], name)
    if ink.max(initial=0) < 0.5:
        raise NoInk(
            name or images.source_name(source),
            "no ink found: it is one even surface; give a picture with lines on it",
        )
    drawn = _heavier(_framed(ink))
    return np.repeat(np.rint(255 * (1 - drawn)).astype(np.uint8)[..., None], 3, -1)


def prepared_or_same(source: images.Source) -> images.Source:
    """As `prepare`; an empty sheet as it is, for benchmarks that hold some."""
    try:
        return prepare(source)
    except NoInk:
        return source


def _flattened(source: images.Source, name: str) -> Float[np.ndarray, "h w 3"]:
    """Colours in [0, 1] on white; on black where nothing would show on white."""
    rgba = images.decode_rgba(source, WORK, name).astype(np.float32) / 255
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    on_white = colours * alpha + 1 - alpha
    if alpha.min() > 0.5 or (1 - on_white).max() >= FAINT:
        return on_white
    return colours * alpha


def _ink(colours: Float[np.ndarray, "h w 3"]) -> Ink | None:
    """How much ink there is at each place; all below 0.5 for none; None for a photo."""
    sheet = _sheet_colour(colours)
    if sheet is not None:
        # By the channel that tells most: yellow on white is seen in blue alone.
        return _stretched(np.abs(colours - sheet).max(-1), FAINT)
    return _photographed_ink(colours)


def _sheet_colour(
    colours: Float[np.ndarray, "h w 3"],
) -> Float[np.ndarray, " 3"] | None:
    """The one colour that most of a sheet has, if it has one."""
    levels = np.rint(colours[::2, ::2] * 255).astype(np.int32)
    mode = np.array([np.bincount(c.ravel(), minlength=256).argmax() for c in levels.T])
    near = (np.abs(levels - mode).max(-1) <= 4).mean()
    return mode.astype(np.float32) / 255 if near >= SHEET else None


def _photographed_ink(colours: Float[np.ndarray, "h w 3"]) -> Ink | None:
    """Ink by local contrast: shadows, lamps and grain are left out."""
    window = max(15, max(colours.shape) // 8) | 1
    smooth = ndimage.gaussian_filter(colours, (0.7, 0.7, 0))
    detail = smooth - ndimage.gaussian_filter(smooth, (window / 4, window / 4, 0))
    # Lines are rare: they turn the third moment to their side, dark or light (chalk on
    # slate), most in the channel that shows them best (yellow in blue).
    moments = (detail**3).mean((0, 1))
    grey = smooth[..., np.abs(moments).argmax()]
    grey = grey if moments.sum() <= 0 else 1 - grey
    paper = _paper(grey, window)
    depth = np.clip(1 - grey / np.maximum(paper, 0.05), 0, 1)
    mask = (grey < filters.threshold_sauvola(grey, window, k=0.1)) & (depth > 0.05)
    clear = ~np.asarray(ndimage.binary_dilation(mask, iterations=3), bool)
    if mask.mean() > COVERED or _uneven(smooth, depth, clear):
        return None
    mask = morphology.remove_small_objects(mask, max_size=window)
    around = ndimage.binary_dilation(mask, iterations=2)
    return _stretched(np.where(around, depth, 0), FAINT_PHOTO)


def _uneven(
    smooth: Float[np.ndarray, "h w 3"], depth: Ink, clear: Bool[np.ndarray, "h w"]
) -> bool:
    """Whether what is no ink is no paper: texture, or more than one colour."""
    if not clear.any():
        return True
    sheet = smooth[clear]
    hue = sheet / np.maximum(sheet.mean(-1, keepdims=True), 0.05)
    return bool(max(depth[clear].mean(), hue.std(0).max()) > UNEVEN)


def _paper(grey: Ink, window: int) -> Ink:
    """The brightness that paper has or would have, ink or not."""
    small = grey[::4, ::4]
    bright = ndimage.percentile_filter(small, 80, max(3, window // 4))
    picture = Image.fromarray(ndimage.gaussian_filter(bright, 2))
    return np.asarray(picture.resize(grey.shape[::-1], Image.Resampling.BICUBIC))


def _stretched(depth: Ink, faint: float) -> Ink:
    """Depths below the ink's as 0, the ink's own as 1; none where all is too faint."""
    # The darkest thousandth, and a dozen pixels at least: a dot is a drawing.
    count = max(12, depth.size // 1000)
    top = float(np.partition(depth.ravel(), -count)[-count:].mean())
    if top < faint:
        return np.zeros_like(depth)
    return np.clip(depth / top, 0, 1)


def _framed(ink: Ink) -> Float[np.ndarray, "512 512"]:
    """The sheet as a square; around the ink, with a margin, where that is small."""
    height, width = ink.shape
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    span, side = max(bottom - top, right - left), max(height, width)
    middle = width / 2, height / 2
    if span < SMALL * side:
        side, middle = span / LARGE, ((left + right) / 2, (top + bottom) / 2)
    corner = [at - side / 2 for at in middle]
    scale = side / SIDE
    # Beyond the sheet there is no ink, which is 0 as Pillow has it.
    reduced = max(1, int(scale))
    picture = Image.fromarray(ink.astype(np.float32))
    if reduced > 1:
        picture = picture.reduce(reduced)
    affine = scale / reduced, 0, corner[0] / reduced, 0, scale / reduced
    affine = (*affine, corner[1] / reduced)
    framed = picture.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(framed), 0, 1)


def _heavier(ink: Ink) -> Ink:
    """Thin lines drawn thicker, so that none grows pale when the picture is reduced."""
    width = 2 * line_width(ink[::2, ::2] > 0.5)
    radius = round((THIN * SIDE - width) / 2 + 0.4)
    if radius < 1:
        return ink
    return ndimage.grey_dilation(ink, footprint=morphology.disk(radius))


def line_width(mask: Bool[np.ndarray, "h w"]) -> float:
    """The usual width of lines, in pixels: twice the depth of their middle."""
    middle = morphology.skeletonize(mask)
    depth = np.asarray(ndimage.distance_transform_edt(mask))
    return 2 * float(np.median(depth[middle])) - 1 if middle.any() else float(SIDE)
