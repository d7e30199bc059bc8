"""What `sbir models` shows: known models with their costs."""

import json
import shutil
import textwrap

from sbir_jax.backbones.known import MODELS, SPEEDS, Model

COLUMNS = "{:<16}{:>8}{:>10}  {:<11}{}"
NOTES = (
    "fetched: about, and once. memory: all weights in float32; on a GPU or TPU half of "
    "it, in bfloat16; what photos take comes on top. speed: by the 1e12 operations for "
    "a photo, counted and not measured: "
    + ", ".join(f"{name} up to {most:g}" for name, most in SPEEDS.items())
    + ". Other diffusers folders and hub ids of these families work as well."
)


def as_json() -> str:
    """A list with an object for each model; sizes in GB, parameters in millions."""
    return json.dumps([_values(model) for model in MODELS.values()], indent=2)


def _values(model: Model) -> dict[str, str | float]:
    return {
        "name": model.name,
        "source": model.source,
        "licence": model.licence,
        "download_gb": round(model.download, 2),
        "memory_gb": round(model.memory, 2),
        "parameters_million": model.parameters,
        "teraflop_per_photo": model.teraflop,
        "speed": model.speed,
        "good_for": model.good_for,
    }


def as_text() -> str:
    """A table as wide as the terminal; where a model is from and what it is good for
    stand below its costs."""
    width = shutil.get_terminal_size().columns
    head = COLUMNS.format("", "fetched", "memory", "speed", "licence")
    blocks = [_block(model, width) for model in MODELS.values()]
    return "\n".join([head, *blocks, "", textwrap.fill(NOTES, width)])


def _block(model: Model, width: int) -> str:
    sizes = _readable(model.download), _readable(model.memory)
    lines = [COLUMNS.format(model.name, *sizes, model.speed, model.licence)]
    if model.source != model.name:
        lines.append(f"  {model.source}")
    indent = "  "
    lines += textwrap.wrap(
        model.good_for, width, initial_indent=indent, subsequent_indent=indent
    )
    return "\n".join(lines)


def _readable(gigabytes: float) -> str:
    if not gigabytes:
        return "-"
    small = gigabytes < 0.1
    return f"{gigabytes * 1000:.0f} MB" if small else f"{gigabytes:.1f} GB"
