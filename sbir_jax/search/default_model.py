"""The model that the shell takes for a new index where none is named."""

from sbir_jax.backbones import known

# Of those that come with the package. On real drawings neither finds much, hog a little
# more: mAP@all over a subset of Sketchy (25 photos and 25 sketches of a class) in split
# 25, 625 sketches over 625 photos of unseen classes, prepared as the shell does: hog
# 0.095, toybox 0.083, chance 0.049 (as drawn 0.086 and 0.076). Rows `hog` and `frozen`
# of the report of
#   python -m sbir_jax.main --config configs/sketchy.py:split=25 --workdir RUN \
#       --config.data.root=DIR --config.score.prepare=True
# toybox is taken all the same: words, masks and explanations need a diffusion model.
NAME = known.TOYBOX


def told() -> str:
    """One line: which it is, what it can and cannot do, and what finds more."""
    good_for = known.MODELS[NAME].good_for
    return (
        f"no --model given: taking {NAME} ({good_for}). On real drawings --model "
        f"{known.HOG} finds a little more, without words; sbir models lists others"
    )
