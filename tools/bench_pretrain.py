"""Images a second of a step of `tools.pretrain_toybox`, beside this machine's products.

    python -m tools.bench_pretrain --batch 32 --runs 10

Prints one JSON line. The step is the whole one, with text encoder, AdamW and moving
average, on random latents and captions of usual length. Times are of wall and of
processor: where others use the cores, only the latter tells.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones import stable_diffusion_files
from sbir_jax.diffusion import noise_schedule
from sbir_jax.runtime import hardware
from sbir_jax.train_step import Step, new_state
from tools import fit, pretrain_toybox, toybox_configs, toybox_losses
from tools.bench_common import timed

VOCABULARY, WORDS = 512, 12


def measure(configs: dict, batch: int, runs: int, product: int = 2048) -> dict:
    """Medians over `runs` steps of random networks of these configs."""
    networks = stable_diffusion_files.build_networks(configs)
    unet, _, text = networks
    names = {"unet": unet, "text_encoder": text}
    params = {
        name: stable_diffusion_files.init_params(network, jax.random.key(0))
        for name, network in names.items()
    }
    length = text.config.max_position_embeddings
    rng = np.random.default_rng(0)
    side = configs["unet"]["sample_size"]
    latents = rng.standard_normal((batch, side, side, unet.config.in_channels))
    tokens = np.full((batch, length), text.config.vocab_size - 1, np.int32)
    tokens[:, :WORDS] = rng.integers(text.config.vocab_size, size=(batch, WORDS))
    schedule = noise_schedule.NoiseSchedule.from_json(configs["scheduler"])
    nothing = dict.fromkeys(pretrain_toybox.ALIGN, 0.0)
    loss = toybox_losses.diffusion_loss(networks, schedule, tokens[0], nothing)
    optimiser = fit.optimiser(1e-3)
    step = Step(lambda *x: (loss(x[0], x[3], x[2]), {}), optimiser, fit.SEED, 0.999)
    no = np.zeros(batch, bool)
    given = {"latents": latents.astype(np.float16), "tokens": tokens}
    given |= {"dropped": no, "false": no}
    operations = fit.operations(loss, params, given)
    state = jax.tree.map(jnp.array, new_state(params, optimiser, 0.0, average=True))

    def run():
        nonlocal state
        state, _ = step(state, None, {}, [given], 0.5)
        jax.block_until_ready(state)

    run()
    found = [timed(run) for _ in range(runs)]
    wall, cpu = (np.median([x[name] for x in found]) for name in found[0])
    best = fit.product_rate(product)
    return {
        "batch": batch,
        "operations": operations,
        "seconds": wall,
        "cpu_seconds": cpu,
        "images_per_second": batch / wall,
        "product_rate": best,
        "share": operations / wall / best,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=pretrain_toybox.Recipe.unet_batch)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    hardware.keep_memory()
    hardware.keep_programs()
    ends = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    text = {**toybox_configs.CONFIGS["text_encoder"], "vocab_size": VOCABULARY, **ends}
    configs = {**toybox_configs.CONFIGS, "text_encoder": text}
    print(json.dumps(measure(configs, args.batch, args.runs)))


if __name__ == "__main__":
    main()
