"""The model that the shell takes for a new index where none is named."""

from sbir_jax.backbones import known

# Of those that come with the package the one that finds more in real drawings, though
# neither finds much: mAP@all over a subset of Sketchy (25 photos and 25 sketches of a
# class) in split 25, 625 sketches over 625 photos of unseen classes, prepared as the
# shell does: hog 0.095, toybox 0.083, chance 0.049 (as drawn 0.086 and 0.076). Rows
# `hog` and `frozen` of the report of
#   python -m sbir_jax.main --config configs/sketchy.py:split=25 --workdir RUN \
#       --config.data.root=DIR --config.score.prepare=True
NAME = known.HOG


def choose(task: str | None, encoder: str) -> str:
    """The one that finds more, or the embedded network where layers to read or an
    encoder are named, which the other does not have."""
    return known.TOYBOX if task or encoder else NAME


def told(name: str) -> str:
    """One line: which it is, what it can and cannot do, and what there is beside it."""
    if name == known.HOG:
        beside = (
            f"In real drawings it finds a little more than --model {known.TOYBOX}, the "
            "small diffusion model that comes along, takes words and explains"
        )
    else:
        beside = f"In real drawings --model {known.HOG} finds a little more"
    return (
        f"no --model given: taking {name} ({known.MODELS[name].good_for}). {beside}; "
        "sbir models lists others"
    )
