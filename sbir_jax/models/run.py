"""One run of a denoising network: what it is given, and what is asked of it.

The layers of a network run one by one from a generator that yields whatever can be
asked for; the run stops at the last thing that was.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from sbir_jax.models.transformer import KeyValues, Shift
from sbir_jax.models.unet_names import ATTENTION_PARTS
from sbir_jax.types import Readout


class Run(NamedTuple):
    """What all layers of one run are given."""

    time: Float[Array, "_ e"]
    context: Float[Array, "s n d"]
    asked: Mapping[str, tuple[str, ...]]
    kv: Mapping[str, KeyValues]
    residuals: Mapping[str, Array]
    kv_shift: Mapping[str, Shift]

    def plus(self, name: str, x: Float[Array, "b y x f"]) -> Float[Array, "b y x f"]:
        """x with the residual of that name, if there is one.

        Raises ValueError for one that does not fit.
        """
        residual = self.residuals.get(name)
        if residual is None:
            return x
        if residual.shape not in (x.shape, (1, *x.shape[1:])):
            raise ValueError(
                f"residuals[{name!r}] has shape {residual.shape}; give {x.shape}, or 1 "
                "in the place of the first number for all images"
            )
        return x + residual.astype(x.dtype)

    def parts(self, name: str) -> list[str]:
        """What an attention layer of that name is to hand out."""
        return [what for what in ATTENTION_PARTS if name in self.asked[what]]

    def extra(self, name: str, x: Float[Array, "b y x f"]) -> KeyValues | None:
        """The keys and values beside those of an attention layer on x.

        Raises ValueError for some that do not fit.
        """
        if name not in self.kv:
            return None
        keys, values = self.kv[name]
        rows = keys.shape[0] if keys.ndim == 3 else 1
        fits = keys.ndim in (2, 3) and keys.shape[-1] == x.shape[-1]
        if not fits or keys.shape != values.shape or not rows or len(x) % rows:
            raise ValueError(
                f"kv[{name!r}] has keys of shape {keys.shape} and values of shape "
                f"{values.shape}; give both [e, {x.shape[-1]}], or [s, e, "
                f"{x.shape[-1]}] with s a divisor of the {len(x)} images"
            )
        return keys, values

    def shift(self, name: str, x: Float[Array, "b y x f"]) -> Shift | None:
        """What is added to the keys and values of an attention layer on x.

        Raises ValueError for some that do not fit.
        """
        if name not in self.kv_shift:
            return None
        texts, width = len(self.context), x.shape[-1]
        for rows in self.kv_shift[name]:
            if rows.shape not in ((1, width), (texts, width)):
                raise ValueError(
                    f"kv_shift[{name!r}] has shape {rows.shape}; give [1, {width}] for "
                    f"all texts, or [{texts}, {width}], one for each"
                )
        return self.kv_shift[name]


class Names(NamedTuple):
    """What a network can be asked for and given, by name."""

    taps: tuple[str, ...]
    attentions: tuple[str, ...]
    residuals: tuple[str, ...]

    def check(
        self,
        asked: Mapping[str, tuple[str, ...]],
        kv: Iterable[str],
        residuals: Iterable[str],
        kv_shift: Iterable[str],
    ) -> None:
        """Raise ValueError for an unknown name, and where nothing is asked for."""
        for what, names, known in (
            ("taps", asked["taps"], self.taps),
            *((part, asked[part], self.attentions) for part in ATTENTION_PARTS),
            ("kv", kv, self.attentions),
            ("kv_shift", kv_shift, self.attentions),
            ("residuals", residuals, self.residuals),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(f"unknown {what} {unknown}; known are {list(known)}")
        if not any(asked.values()):
            raise ValueError("no taps, no maps and nothing else was asked for")


def check_batch(images: int, texts: int, t: tuple[int, ...]) -> None:
    """Raise ValueError unless so many texts, and timesteps of shape `t`, fit."""
    if not texts or images % texts:
        raise ValueError(
            f"there are {texts} contexts for {images} latents; give one for all, "
            "one each, or one for every few in a row"
        )
    if t not in ((), (images,)):
        raise ValueError(f"t has shape {t}; it must be () or ({images},)")


def collect(
    steps: Iterable[tuple[str, str, Any]], asked: Mapping[str, tuple[str, ...]]
) -> Readout:
    """What was asked for, of a network's generator, which is run no further.

    Args:
      steps: (kind, name, value) of everything, in the order it is computed in; a kind
        is a field of `Readout`.
    """
    found: dict[str, dict] = {kind: {} for kind in asked}
    missing = {(kind, name) for kind, names in asked.items() for name in names}
    for kind, name, value in steps:
        if (kind, name) in missing:
            found[kind][name] = value
            missing.remove((kind, name))
        if not missing:
            break
    return Readout(**found)
