"""Makes `sbir_jax/assets/toybox_sd` again from nothing: a small Stable Diffusion.

    python tools/pretrain_toybox.py --workdir runs/pretrain

Renders captioned photos and sketches of the Toybox world, builds a CLIP tokenizer from
its words, trains the autoencoder, then the UNet together with the text encoder, and
writes a folder in the diffusers layout with the curves and a sheet of samples beside
it. Every stage leaves its result in the work folder, so the same command goes on where
it was stopped. The recipe of sizes and steps is `Recipe`; all of it is ours.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import time

import flax.struct
import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
import orbax.checkpoint as ocp
from tqdm.auto import tqdm

from sbir_jax import diffusers_files, diffusion, weights
from sbir_jax.data import toybox_world
from sbir_jax.generate import generate
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.configs import AutoencoderConfig

matplotlib.use("Agg")
SIZE = 64  # pixels
# Twice Stable Diffusion's four: with those the colours of small things are lost here.
LATENTS = 8
CONTEXT = 128  # width of the text states
TOKENS = 77

SAMPLES = (
    ("red", "mug"),
    ("blue", "chair"),
    ("green", "car"),
    ("orange", "fish"),
    ("pink", "house"),
    ("white", "rocket"),
    ("purple", "hat"),
    ("brown", "bed"),
    ("black", "bottle"),
    ("grey", "elephant"),
)

CONFIGS = {
    "vae": {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENTS,
        "block_out_channels": [16, 32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "act_fn": "silu",
        "sample_size": SIZE,
    },
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "sample_size": SIZE // 4,
        "block_out_channels": [48, 96, 144, 192],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 12,
        "attention_head_dim": [2, 3, 4, 6],
        "cross_attention_dim": CONTEXT,
        "use_linear_projection": True,
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": CONTEXT,
        "intermediate_size": 4 * CONTEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": CONTEXT,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a full run does; `--quick` shrinks it to check that the tool runs."""

    chunks: int = 96  # of 64 things: 3 photos and 2 sketches each
    vae_steps: int = 1000
    vae_batch: int = 16
    vae_learning_rate: float = 2e-3
    kl_weight: float = 1e-3
    unet_steps: int = 3000
    unet_batch: int = 32
    unet_learning_rate: float = 1e-3
    caption_dropout: float = 0.1
    ema: float = 0.997


class Log:
    """Appends one JSON line a call; `curves.png` and the summary are made of it."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __call__(self, **values) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def read(self, stage: str) -> list[dict]:
        if not self.path.exists():
            return []
        rows = map(json.loads, self.path.read_text().splitlines())
        return [row for row in rows if row["stage"] == stage]


def make_data(recipe: Recipe, workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Images uint8 [n, 64, 64, 3] and captions [n], photos and sketches together."""
    path = workdir / "data.npz"
    if not path.exists():
        images, captions = [], []
        chunks = toybox_world.iter_pretraining(0, 0, recipe.chunks, size=SIZE)
        for chunk in tqdm(chunks, "render", recipe.chunks, unit="chunk"):
            images += [chunk.photos, chunk.sketches]
            captions += [*chunk.photo_captions, *chunk.sketch_captions]
        partial = path.with_suffix(".part.npz")
        np.savez(partial, images=np.concatenate(images), captions=np.array(captions))
        partial.rename(path)
    with np.load(path) as data:
        return {name: data[name] for name in ("images", "captions")}


def make_tokenizer(folder: pathlib.Path) -> int:
    """A byte-level BPE in CLIP's two files in which every Toybox word is one token.

    Any other word falls apart into characters, so any text can be given.
    Returns: the number of tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>"
    )
    learner.train_from_iterator([" ".join(toybox_world.VOCABULARY)], trainer)
    merges = [
        " ".join(pair) if isinstance(pair, list) else pair
        for pair in json.loads(learner.to_str())["model"]["merges"]
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return len(tokens)


def to_float(images: np.ndarray) -> jax.Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


@flax.struct.dataclass
class State:
    """All that a stage trains; `ema` is what it leaves behind."""

    step: jax.Array
    params: dict
    ema: dict
    opt_state: optax.OptState


def fit(
    name: str,
    loss_fn,
    params: dict,
    batches,
    *,
    steps: int,
    learning_rate: float,
    ema: float,
    workdir: pathlib.Path,
    log: Log,
    save_every: int = 500,
) -> dict:
    """AdamW with warm-up and cosine on `loss_fn(params, key, batch)`; returns the EMA.

    `batches(step)` is a pure function, so a stopped stage goes on from its last save.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(200, steps // 10), steps, learning_rate / 50
    )
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=0.01),
    )

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, batch):
        key = jax.random.fold_in(jax.random.key(17), state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, key, batch)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # A short memory at first, so that the start does not linger in the average.
        rate = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            lambda a, b: rate * a + (1 - rate) * b, state.ema, params
        )
        return State(state.step + 1, params, average, opt_state), loss

    state = State(
        jnp.zeros((), jnp.int32),
        params,
        jax.tree.map(jnp.copy, params),
        tx.init(params),
    )
    with ocp.CheckpointManager(
        (workdir / name).resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=1)
    ) as manager:
        if manager.latest_step() is not None:
            state = manager.restore(
                manager.latest_step(), args=ocp.args.StandardRestore(state)
            )
        begin, losses = int(state.step), []
        bar = tqdm(range(begin, steps), desc=name, initial=begin, total=steps)
        for step in bar:
            state, loss = update(state, batches(step))
            losses.append(loss)
            if (step + 1) % 50 == 0 or step + 1 == steps:
                mean = float(np.mean(jax.device_get(losses)))
                losses = []
                bar.set_postfix(loss=f"{mean:.4f}")
                log(stage=name, step=step + 1, loss=mean, time=time.time())
                if not np.isfinite(mean):
                    raise FloatingPointError(f"{name}: loss is {mean} at step {step}")
            if (step + 1) % save_every == 0 or step + 1 == steps:
                manager.save(step + 1, args=ocp.args.StandardSave(state))
    return state.ema


def train_vae(recipe, data, workdir, log):
    """The autoencoder: L1 and L2 in pixels, L1 in their differences, a light KL."""
    vae = Autoencoder(AutoencoderConfig.from_json(CONFIGS["vae"]))
    params = weights.init_params(vae, jax.random.key(0))
    images = data["images"]

    def batches(step):
        rng = np.random.default_rng((1, step))
        return images[rng.integers(len(images), size=recipe.vae_batch)]

    def loss_fn(params, key, batch):
        x = to_float(batch)
        mean, logvar = vae.apply({"params": params}, x, method="encode")
        noise = jax.random.normal(key, mean.shape)
        y = vae.apply(
            {"params": params}, mean + jnp.exp(0.5 * logvar) * noise, method="decode"
        )
        # Differences of neighbours keep edges sharp, and thin strokes are all edge.
        edges = sum(jnp.abs(jnp.diff(x - y, axis=a)).mean() for a in (1, 2))
        kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1.0 - logvar).mean()
        # L1 alone lets a small coloured thing fade to the grey around it.
        pixels = jnp.abs(x - y).mean() + 4.0 * jnp.square(x - y).mean()
        return pixels + 0.5 * edges + recipe.kl_weight * kl

    params = fit(
        "vae",
        loss_fn,
        params,
        batches,
        steps=recipe.vae_steps,
        learning_rate=recipe.vae_learning_rate,
        ema=0.99,
        workdir=workdir,
        log=log,
    )
    return vae, params


def encode_all(vae, params, images, workdir):
    """Posterior means, float16 [n, 16, 16, LATENTS]."""
    path = workdir / "latents.npy"
    if not path.exists():

        @jax.jit
        def encode(batch):
            x = to_float(batch)
            return vae.apply({"params": params}, x, method="encode")[0]

        latents = []
        for start in tqdm(range(0, len(images), 64), desc="encode", unit="batch"):
            batch = images[start : start + 64]
            padded = np.concatenate([batch, images[: 64 - len(batch)]])
            latents.append(np.asarray(encode(padded), np.float16)[: len(batch)])
        partial = path.with_suffix(".part.npy")
        np.save(partial, np.concatenate(latents))
        partial.rename(path)
    return np.load(path)


def train_unet(recipe, latents, tokens, empty, configs, schedule, workdir, log):
    """UNet and text encoder together on the schedule's own target."""
    unet, _, text = weights.build_networks(configs)
    keys = jax.random.split(jax.random.key(1))
    params = {
        "unet": weights.init_params(unet, keys[0]),
        "text_encoder": weights.init_params(text, keys[1]),
    }

    def batches(step):
        rng = np.random.default_rng((2, step))
        pick = rng.integers(len(latents), size=recipe.unet_batch)
        ids = tokens[pick].copy()
        ids[rng.random(recipe.unet_batch) < recipe.caption_dropout] = empty
        return latents[pick], ids

    def loss_fn(params, key, batch):
        clean, ids = batch[0].astype(jnp.float32), batch[1]
        key_t, key_n = jax.random.split(key)
        # One timestep from each of b equal intervals: every batch sees all levels.
        b = len(clean)
        t = jnp.arange(b) + jax.random.uniform(key_t, (b,))
        t = t * (schedule.timesteps / b)
        t = t.astype(jnp.int32)
        noise = jax.random.normal(key_n, clean.shape)
        noised = diffusion.add_noise(schedule, clean, noise, t)
        states = text.apply({"params": params["text_encoder"]}, ids)
        taps, _ = unet.apply({"params": params["unet"]}, noised, t, states)
        target = diffusion.velocity(schedule, clean, noise, t)
        return jnp.square(taps["out"] - target).mean()

    params = fit(
        "unet",
        loss_fn,
        params,
        batches,
        steps=recipe.unet_steps,
        learning_rate=recipe.unet_learning_rate,
        ema=recipe.ema,
        workdir=workdir,
        log=log,
    )
    return params


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def samples_sheet(out: pathlib.Path, path: pathlib.Path) -> None:
    """What the finished folder makes of three prompts about each of ten things."""
    rows = [
        [f"a photo of {with_article(colour)} {thing}" for colour, thing in SAMPLES],
        [
            f"a photo of {with_article(thing)} with yellow stripes"
            for _, thing in SAMPLES
        ],
        [f"a sketch of {with_article(thing)}" for _, thing in SAMPLES],
    ]
    texts = [text for row in rows for text in row]
    pictures = generate(weights.load_backbone(out), texts)
    figure, axes = plt.subplots(len(rows), len(SAMPLES), figsize=(15, 5.2))
    for axis, picture, text in zip(axes.flat, pictures, texts, strict=True):
        axis.imshow(picture, interpolation="lanczos")
        axis.set_title(text.removeprefix("a photo of "), fontsize=7)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def curves(log: Log, path: pathlib.Path) -> None:
    """Loss of both stages by step."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    for axis, stage in zip(axes, ("vae", "unet"), strict=True):
        rows = log.read(stage)
        axis.semilogy([r["step"] for r in rows], [r["loss"] for r in rows])
        axis.set(title=stage, xlabel="step", ylabel="loss")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/pretrain")
    parser.add_argument("--out", type=pathlib.Path, default=diffusers_files.TOYBOX)
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it")
    args = parser.parse_args()
    recipe = Recipe()
    if args.quick:
        recipe = Recipe(chunks=1, vae_steps=4, unet_steps=4)
    args.workdir.mkdir(parents=True, exist_ok=True)
    log = Log(args.workdir / "log.jsonl")

    data = make_data(recipe, args.workdir)
    vocabulary = make_tokenizer(args.workdir / "tokenizer")
    vae, vae_params = train_vae(recipe, data, args.workdir, log)
    latents = encode_all(vae, vae_params, data["images"], args.workdir)
    # As in latent diffusion: the factor brings the latents to unit variance.
    factor = float(1.0 / latents.astype(np.float32).std())
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(args.workdir / "tokenizer")
    ids = functools.partial(
        tokenizer, padding="max_length", truncation=True, max_length=TOKENS
    )
    distinct, inverse = np.unique(data["captions"], return_inverse=True)
    tokens = np.asarray(ids([str(c) for c in distinct])["input_ids"], np.int32)[inverse]
    empty = np.asarray(ids([""])["input_ids"], np.int32)
    end = tokenizer.eos_token_id
    configs = {
        **CONFIGS,
        "vae": {**CONFIGS["vae"], "scaling_factor": factor},
        "text_encoder": {
            **CONFIGS["text_encoder"],
            "vocab_size": vocabulary,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
    }
    schedule = diffusion.NoiseSchedule.from_json(configs["scheduler"])
    params = train_unet(
        recipe,
        latents * np.float16(factor),
        tokens,
        empty[0],
        configs,
        schedule,
        args.workdir,
        log,
    )
    weights.save_diffusers(
        args.out,
        configs,
        {**params, "vae": vae_params},
        dtype=np.float16,
        tokenizer=tokenizer,
    )
    curves(log, args.workdir / "curves.png")
    samples_sheet(args.out, args.workdir / "samples.png")
    print(f"wrote {args.out}; curves.png and samples.png are in {args.workdir}")


if __name__ == "__main__":
    main()
