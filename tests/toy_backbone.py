"""A family of backbones that is not Stable Diffusion: one linear layer and attention.

With its line in the registry everything that takes a backbone takes this one.
"""

import dataclasses
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.types import Readout, TextStates

WIDTH, LENGTH, PIXELS = 6, 5, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Backbone):
    dtype = np.dtype(np.float32)
    image_size = 16
    stride = PIXELS
    context_dim = WIDTH
    tap_names = ("mixed", "out")
    attention_names = ("cross",)
    residual_names = ("mixed",)

    def latent_shape(self, size):
        return size // PIXELS, size // PIXELS, WIDTH

    def tokenize(self, texts):
        codes = [text.encode()[:LENGTH].ljust(LENGTH, b"\0") for text in texts]
        return np.array([list(code) for code in codes], np.int32)

    def encode_text(self, frozen, tokens):
        states = frozen["letters"][tokens]
        return TextStates(states, tokens > 0, states.mean(1))

    def encode_image(self, frozen, images):
        b, h, w, _ = images.shape
        cells = images.reshape(b, h // PIXELS, PIXELS, w // PIXELS, PIXELS, 3)
        return cells.mean((2, 4)) @ frozen["encoder"]

    def read(
        self,
        frozen,
        latents,
        t,
        text,
        *,
        taps=(),
        maps=(),
        logits=(),
        kv=None,
        residuals=None,
        kv_shift=None,
        queries=(),
        outputs=(),
    ):
        states = jnp.repeat(text.states, len(latents) // len(text.states), 0)
        keys = values = states
        for shift in [kv_shift["cross"]] if kv_shift else []:
            keys, values = (states + rows[:, None] for rows in shift)
        for more, _ in [kv["cross"]] if kv else []:
            keys = values = jnp.concatenate([keys, more], 1)
        scores = jnp.einsum("byxc,bnc->byxn", latents, keys)[:, None]
        weights = jax.nn.softmax(scores, -1)
        mixed = latents + jnp.einsum("byxn,bnc->byxc", weights[:, 0], values)
        mixed = mixed + (residuals or {}).get("mixed", 0)
        found = {"mixed": mixed, "out": jnp.tanh(mixed @ frozen["mix"])}
        return Readout(
            {name: found[name] for name in taps},
            dict.fromkeys(maps, weights),
            dict.fromkeys(logits, scores),
            text.mask,
            dict.fromkeys(queries, latents[:, None]),
            dict.fromkeys(outputs, mixed - latents),
        )

    def keys(self, frozen, text, names):
        return dict.fromkeys(names, text.states[:, None])

    def decode(self, frozen, latents):
        return jnp.repeat(jnp.repeat(latents[..., :3], PIXELS, 1), PIXELS, 2)


def save(folder):
    """A checkpoint of this family."""
    rng = np.random.default_rng(0)
    shapes = {"letters": (256, WIDTH), "encoder": (3, WIDTH), "mix": (WIDTH, WIDTH)}
    tensors = {n: rng.normal(size=s).astype("f") for n, s in shapes.items()}
    folder.mkdir()
    save_file(tensors, folder / "toy.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    return folder


def load(folder, request):
    """What the registry names."""
    path = folder / "toy.safetensors"
    backbone = Toy(
        source=request.source,
        folder=folder,
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
        schedule=NoiseSchedule.from_json({}),
    )
    frozen = {name: request.placing(name, x) for name, x in load_file(path).items()}
    return LoadedBackbone(backbone, frozen)
