"""Our side of `tools.bench`."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from sbir_jax import features
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import PARTS
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.features import TAPS, Recipe
from sbir_jax.models.kernels import winograd
from sbir_jax.runtime import hardware
from sbir_jax.tasks.retrieval.objective import objective
from sbir_jax.tasks.retrieval.setup import TripletConfig
from sbir_jax.train_step import Step, new_state
from tools.bench_common import (
    TIMESTEP,
    Case,
    inputs,
    peak_bytes,
    reset_peak,
    serve,
    timed,
)


def operations(jaxpr: Any) -> int:
    """Additions and multiplications of all matrix products and convolutions.

    Those of the plain arithmetic: a convolution counts as the direct one. The rest of a
    network (norms, activations, softmax) is under 2 % of these and is left out.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = np.prod([shape[i] for i in contracted])
            total += 2 * int(inner) * equation.outvars[0].aval.size
        elif name == "conv_general_dilated":
            *window, channels, _ = equation.invars[1].aval.shape
            inner = int(np.prod(window)) * channels
            total += 2 * inner * equation.outvars[0].aval.size
        else:
            times = parameters.get("length", 1)
            for inside in jaxprs_in_params(parameters):
                total += times * operations(inside)
    return total


class Side:
    """A backbone with one case to run on it."""

    def load(self, folder: str, case: Case) -> dict[str, Any]:
        """Load the backbone as the embedder does."""
        begin = time.perf_counter()
        self.loaded = load_backbone(
            folder,
            taps=TAPS[case.task],
            parts=PARTS,
            dtype=jnp.dtype(case.dtype),
            frozen=True,
        )
        jax.block_until_ready(self.loaded.frozen)
        device = jax.devices()[0]
        return {
            "load_seconds": time.perf_counter() - begin,
            "device": device.device_kind,
            "platform": device.platform,
        }

    def prepare(self, case: Case) -> dict[str, Any]:
        """Compile and run a case once; its result goes along as a check."""
        backbone = self.loaded.backbone
        unet, dtype = backbone.unet.config, jnp.dtype(case.dtype)
        given = inputs(
            case, unet.in_channels, backbone.vae_factor, backbone.context_dim
        )
        recipe = Recipe(TAPS[case.task], TIMESTEP, case.copies)
        images = jnp.asarray(given["images"])

        def describe(frozen, images, context, noise):
            latents = backbone.encode_image(frozen, images.astype(dtype))
            if case.kind == "encode":
                return latents
            return features.describe_latents(
                backbone, frozen, latents, context, noise, recipe
            )

        arguments = (images, jnp.asarray(given["context"]), jnp.asarray(given["noise"]))
        frozen = self.loaded.frozen
        plain = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(winograd.plain_shape(x.shape), x.dtype),
            frozen,
        )
        count = operations(jax.make_jaxpr(describe)(plain, *arguments).jaxpr)
        if case.kind == "train":
            # Back through every product once; frozen weights need no gradient.
            count *= 2
            step, state = self._train_step(case, recipe, given["context"])
            triplets = jnp.split(
                images.reshape(3, -1, *images.shape[1:]), self._groups(case), 1
            )
            groups = [
                dict(zip(("sketch", "positive", "negative"), triplet, strict=True))
                for triplet in triplets
            ]
            self._state = state

            def run():
                self._state, measured = step(self._state, None, frozen, groups)
                jax.block_until_ready(self._state)
                return measured.values["loss"]
        else:
            compiled = hardware.jit(describe)

            def run():
                return jax.block_until_ready(compiled(frozen, *arguments))

        begin = time.perf_counter()
        result = np.asarray(run(), np.float32)
        self._run, first = run, time.perf_counter() - begin
        run()
        reset_peak()
        return {
            "operations": count,
            "first_seconds": first,
            "check": result.ravel()[:4096].tolist(),
        }

    def _groups(self, case: Case) -> int:
        """That a batch goes through the networks in: one after the other on a CPU, all
        together on a GPU, as in training where the memory holds them."""
        together = hardware.image_counts(case.size, jax.devices()[0].platform)[0]
        fits = [n for n in range(1, case.batch + 1) if 3 * n <= together]
        return -(-case.batch // max(n for n in fits or [1] if case.batch % n == 0))

    def _train_step(self, case: Case, recipe: Recipe, text: np.ndarray) -> Any:
        prompts = init_prompts(PromptConfig(), case.size, jnp.asarray(text))
        config = TripletConfig(batch_size=case.batch)
        loss = functools.partial(
            objective,
            backbone=self.loaded.backbone,
            recipe=recipe,
            margin=config.margin,
            visual_scale=1.0,
            encoded=False,
        )
        optimiser = config.optimiser()
        state = new_state(prompts, optimiser, -np.inf, average=False)
        # Copies, since all of the state is donated.
        return Step(loss, optimiser, config.seed), jax.tree.map(jnp.copy, state)

    def run(self) -> dict[str, float]:
        return timed(self._run)

    def peak(self) -> dict[str, int]:
        """Peak memory of the runs since the case was prepared."""
        stats = jax.devices()[0].memory_stats() or {}
        return {"peak_bytes": stats.get("peak_bytes_in_use", peak_bytes())}

    def product(self, side: int, dtype: str) -> dict[str, float]:
        """Operations a second of wall and of processor time in a matrix product."""
        # A GPU multiplies ones faster than it multiplies numbers.
        x = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
        multiply = jax.jit(jnp.matmul)
        multiply(x, x).block_until_ready()
        found = timed(lambda: multiply(x, x).block_until_ready())
        return {name: 2 * side**3 / value for name, value in found.items()}


if __name__ == "__main__":
    serve(Side())
