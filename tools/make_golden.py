"""Record what PyTorch computes on small random networks, as the tests' golden values.

    python -m tools.make_golden [folder]          (tests/golden by default)

Needs the `parity` extra. Writes two checkpoints in the diffusers layout, of the kinds
of Stable Diffusion 1.x and 2.x, and beside each an .npz of inputs, every feature,
every cross-attention map, latents, images and text states; and one .npz of schedules.
Run it again only when the oracle changes: the tests compare with these files.
"""

import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from safetensors.numpy import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

# The schedules to record, as arguments of diffusers' DDIMScheduler.
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
SCHEDULES = {
    "scaled": STABLE_DIFFUSION,
    "linear": {},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "v": {**STABLE_DIFFUSION, "prediction_type": "v_prediction"},
    "zero_snr": {
        **STABLE_DIFFUSION,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    # What a file says of the sampler itself.
    "final": {**STABLE_DIFFUSION, "set_alpha_to_one": False, "steps_offset": 1},
    "clipped": {**STABLE_DIFFUSION, "clip_sample": True, "clip_sample_range": 0.5},
    "thresholded": {
        **STABLE_DIFFUSION,
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.9,
        "sample_max_value": 1.5,
    },
}
# What tells the two generations apart; sizes are as small as the blocks allow.
UNETS = {
    "sd1": {"cross_attention_dim": 16, "attention_head_dim": 2},
    "sd2": {
        "cross_attention_dim": 24,
        "attention_head_dim": [1, 2, 4, 4],
        "use_linear_projection": True,
        "upcast_attention": True,
    },
}
TEXTS = {
    "sd1": {"hidden_size": 16, "hidden_act": "quick_gelu"},
    "sd2": {"hidden_size": 24, "hidden_act": "gelu"},
}


def randomise(network, seed):
    """Give every parameter some noise (norms and biases start at constants), in
    values that survive being stored in half precision."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = (parameter.data + 0.05 * noise).half().float()
    return network.eval().requires_grad_(False)


def small_unet(seed=0, **overrides):
    torch.manual_seed(seed)
    config = {
        "sample_size": 8,
        "block_out_channels": (8, 16, 16, 16),
        "norm_num_groups": 4,
    }
    return randomise(UNet2DConditionModel(**{**config, **overrides}), seed)


def small_vae(seed=0):
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=2,
        norm_num_groups=2,
        sample_size=64,
    )
    return randomise(vae, seed)


def small_tiny(seed=0, **overrides):
    """A distilled encoder for `small_vae`, with a decoder that we do not read."""
    torch.manual_seed(seed)
    config = {
        "encoder_block_out_channels": (4,) * 4,
        "num_encoder_blocks": (1, 0, 2, 1),
        "decoder_block_out_channels": (4,) * 4,
        "num_decoder_blocks": (1,) * 4,
    }
    return randomise(AutoencoderTiny(**{**config, **overrides}), seed)


def small_text(seed=0, **overrides):
    torch.manual_seed(seed)
    config = {
        "vocab_size": 64,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": 62,
        "eos_token_id": 63,
    }
    return randomise(CLIPTextModel(CLIPTextConfig(**config, **overrides)), seed)


def nchw(x):
    return torch.tensor(np.moveaxis(x, -1, 1))


def nhwc(x):
    return np.moveaxis(x.float().numpy(), 1, -1)


def record_unet(unet, latents, t, context, **added):
    """Every feature and map of the UNet, under our names with "tap/" or "map/".

    Args:
      added: what a UNet takes beside the text, by its own names.
    """
    found, hooks = {}, []

    def keep(module, name):
        def hook(_, __, output):
            output = output[0] if isinstance(output, tuple) else output
            output = getattr(output, "sample", output)
            found[f"tap/{name}"] = nhwc(output)

        hooks.append(module.register_forward_hook(hook))

    def keep_map(attention, name, level):
        scores = attention.get_attention_scores
        # Rows and columns at this level, since the module only sees their product.
        h, w = (n >> level for n in latents.shape[1:3])

        def recorded(*args):
            p = scores(*args)
            shape = (len(latents), -1, h, w, p.shape[-1])
            found[f"map/{name}"] = p.float().reshape(shape).numpy()
            return p

        attention.get_attention_scores = recorded

    last = len(unet.down_blocks) - 1
    groups = [(f"down.{i}", b, i) for i, b in enumerate(unet.down_blocks)]
    groups += [("mid", unet.mid_block, last)] * (unet.mid_block is not None)
    groups += [(f"up.{i}", b, last - i) for i, b in enumerate(unet.up_blocks)]
    keep(unet.conv_in, "conv_in")
    for name, block, level in groups:
        for j, resnet in enumerate(block.resnets):
            keep(resnet, f"{name}.res.{j}")
        for j, attention in enumerate(getattr(block, "attentions", ())):
            keep(attention, f"{name}.attn.{j}")
            layers = attention.transformer_blocks
            for k, layer in enumerate(layers):
                number = f".{k}" if len(layers) > 1 else ""
                keep_map(layer.attn1, f"{name}.attn.{j}{number}.self", level)
                keep_map(layer.attn2, f"{name}.attn.{j}{number}.cross", level)
        keep(block, f"{name}.out")
    keep(unet.conv_out, "out")
    unet.set_attn_processor(AttnProcessor())
    with torch.no_grad():
        inputs = nchw(latents), torch.tensor(t), torch.tensor(context)
        more = {name: torch.tensor(value) for name, value in added.items()}
        unet(*inputs, added_cond_kwargs=more or None)
    for hook in hooks:
        hook.remove()
    return found


def record_residuals(unet, latents, t, context, adapter, skips, middle):
    """Predictions with what a T2I adapter adds, and with what a ControlNet adds.

    Args:
      adapter: a state for each level of the encoder.
      skips, middle: a state for each skip, and for the middle block.
    """
    inputs = nchw(latents), torch.tensor(t), torch.tensor(context)
    with torch.no_grad():
        adapted = unet(
            *inputs, down_intrablock_additional_residuals=[nchw(x) for x in adapter]
        )
        controlled = unet(
            *inputs,
            down_block_additional_residuals=[nchw(x) for x in skips],
            mid_block_additional_residual=nchw(middle),
        )
    return {"adapter": nhwc(adapted.sample), "control": nhwc(controlled.sample)}


def record_vae(vae, images, latents):
    with torch.no_grad():
        moments = vae.encode(nchw(images)).latent_dist
        decoded = vae.decode(nchw(latents)).sample
    return {
        "mean": nhwc(moments.mean),
        "logvar": nhwc(moments.logvar),
        "decoded": nhwc(decoded),
    }


def record_tiny(tiny, images):
    with torch.no_grad():
        return nhwc(tiny.encode(nchw(images)).latents)


def record_text(text, tokens):
    with torch.no_grad():
        return text(torch.tensor(tokens)).last_hidden_state.float().numpy()


def unet_inputs(unet, b, h, w, t, seed=0):
    generator = np.random.default_rng(seed)
    shapes = {
        "latents": (b, h, w, unet.config.in_channels),
        "context": (b, 7, unet.config.cross_attention_dim),
    }
    inputs = {k: generator.normal(size=s).astype("f") for k, s in shapes.items()}
    return {**inputs, "t": np.array(t)}


def save(folder, unet, vae, text, scheduler):
    for part, network in {"unet": unet, "vae": vae, "text_encoder": text}.items():
        network.half().save_pretrained(folder / part)
        network.float()
    scheduler.save_pretrained(folder / "scheduler")


def use_first_names(folder):
    """Rename tensors as they are in the files that were published in 2022."""
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(path).items():
        for ours, theirs in old.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        tensors[name] = value
    save_file(tensors, path, {"format": "pt"})
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {
        "text_model." + name.removeprefix("text_model."): value
        for name, value in load_file(path).items()
    }
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
    save_file(tensors, path, {"format": "pt"})


def record_schedules():
    """Noise levels, noising and a whole DDIM run, for each of SCHEDULES."""
    generator = np.random.default_rng(0)
    x, noise = generator.normal(size=(2, 2, 2, 4, 4)).astype("f")
    t = np.array([3, 801])
    found = {"latents": x, "noise": noise, "t": t}
    for name, config in SCHEDULES.items():
        ours = {"clip_sample": False, "timestep_spacing": "trailing"}
        scheduler = DDIMScheduler(**{**ours, **config})
        arguments = (torch.tensor(x), torch.tensor(noise), torch.tensor(t))
        found[f"{name}/alphas_cumprod"] = scheduler.alphas_cumprod.numpy()
        found[f"{name}/noised"] = scheduler.add_noise(*arguments).numpy()
        found[f"{name}/velocity"] = scheduler.get_velocity(*arguments).numpy()
        scheduler.set_timesteps(10)
        sample = torch.tensor(noise)
        for step in scheduler.timesteps:
            # Stands in for the UNet; the tests repeat it.
            prediction = torch.tanh(sample + step / 1000)
            sample = scheduler.step(prediction, step, sample).prev_sample
        found[f"{name}/sampled"] = sample.numpy()
    return found


# What a file may say beside the schedule; timesteps are recorded with each.
SAMPLERS = {
    "ddim": (DDIMScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    "noisy": (DDIMScheduler, {"timestep_spacing": "trailing"}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
    "dpm-solver": (DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
    "dpm-solver-trailing": (
        DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing"},
    ),
    "inverse": (DDIMInverseScheduler, {"timestep_spacing": "trailing"}),
}
SAMPLED = ("scaled", "linear", "cosine", "v", "zero_snr")  # of SCHEDULES


def record_samplers():
    """Eight steps of every sampler on a function that stands in for the UNet."""
    generator = np.random.default_rng(1)
    start = generator.normal(size=(2, 4, 4, 2)).astype("f")
    fresh = generator.normal(size=(8, 2, 4, 4, 2)).astype("f")
    found = {"start": start, "fresh": fresh}
    for name in SAMPLED:
        for sampler, (kind, more) in SAMPLERS.items():
            given = {**SCHEDULES[name], **more}
            if kind in (DDIMScheduler, DDIMInverseScheduler):
                given = {"clip_sample": False, **given}
            scheduler = kind(**given)
            scheduler.set_timesteps(8)
            # Euler's states are divided by their signal.
            sample = torch.tensor(start)
            if sampler == "euler":
                sample = sample * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
            for i, step in enumerate(scheduler.timesteps):
                read = scheduler.scale_model_input(sample, step)
                # Another function than the identity, with a slope that t changes.
                prediction = torch.tanh(read * (1 + step / 1000))
                more = {}
                if sampler == "noisy":
                    more = {"eta": 0.7, "variance_noise": torch.tensor(fresh[i])}
                sample = scheduler.step(prediction, step, sample, **more).prev_sample
            found[f"{name}/{sampler}/t"] = scheduler.timesteps.numpy()
            found[f"{name}/{sampler}"] = sample.numpy()
    return found


def main_tiny(folder):
    """A distilled encoder that fits both kinds, with what it makes of their images."""
    tiny = small_tiny()
    shutil.rmtree(folder / "tiny", ignore_errors=True)
    tiny.half().save_pretrained(folder / "tiny")
    images = np.random.default_rng(1).uniform(-1, 1, (1, 32, 64, 3)).astype("f")
    latents = record_tiny(tiny.float(), images)
    np.savez_compressed(folder / "tiny.npz", images=images, latents=latents)


def main(folder):
    main_tiny(folder)
    for kind in UNETS:
        unet = small_unet(**UNETS[kind])
        vae, text = small_vae(), small_text(**TEXTS[kind])
        prediction = "epsilon" if kind == "sd1" else "v_prediction"
        scheduler = DDIMScheduler(
            **STABLE_DIFFUSION,
            prediction_type=prediction,
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        )
        shutil.rmtree(folder / kind, ignore_errors=True)
        save(folder / kind, unet, vae, text, scheduler)
        if kind == "sd1":
            use_first_names(folder / kind)

        generator = np.random.default_rng(1)
        images = generator.uniform(-1, 1, (1, 32, 64, 3)).astype("f")
        latents = generator.normal(size=(1, 2, 4, 4)).astype("f")
        tokens = generator.integers(0, 64, (2, 77))
        found = {"images": images, "latents": latents, "tokens": tokens}
        found |= record_vae(vae, images, latents)
        found["states"] = record_text(text, tokens)
        inputs = unet_inputs(unet, 2, 8, 16, [3, 801])
        recorded = inputs | record_unet(unet, **inputs)
        found |= {f"unet/{name}": value for name, value in recorded.items()}
        np.savez_compressed(folder / f"{kind}.npz", **found)
    np.savez_compressed(folder / "schedules.npz", **record_schedules())
    np.savez_compressed(folder / "samplers.npz", **record_samplers())


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
