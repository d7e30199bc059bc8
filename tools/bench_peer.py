"""The other side of `tools.bench`: the same descriptor with PyTorch and diffusers.

Channels last, PyTorch's fused attention, hooks on the same up-blocks, the latent
encoded once for all noise copies. `whole` runs the UNet to its end, as a hook on a
pipeline does; `cut` drops the blocks after the last hook, which diffusers does not
offer; `compiled` is `cut` under torch.compile.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn

from tools.bench_common import (
    TIMESTEP,
    Case,
    inputs,
    peak_bytes,
    reset_peak,
    serve,
    timed,
)

BLOCKS = {"category": (0, 1), "fine_grained": (2, 3)}
MARGIN, RATE = 0.3, 1e-2


class Side:
    """The networks with one case to run on them."""

    def __init__(self, kind: str):
        self.kind = kind
        self._hooks: list[Any] = []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    def load(self, folder: str, case: Case) -> dict[str, Any]:
        begin = time.perf_counter()
        dtype, root = getattr(torch, case.dtype), Path(folder)
        self.unet, self.vae = (
            network.from_pretrained(root / part, torch_dtype=dtype)
            .to(self.device, memory_format=torch.channels_last)
            .eval()
            .requires_grad_(False)
            for network, part in (
                (UNet2DConditionModel, "unet"),
                (AutoencoderKL, "vae"),
            )
        )
        self.vae.decoder = None
        self.schedule = DDIMScheduler.from_pretrained(root / "scheduler")
        self._synchronize()
        return {"load_seconds": time.perf_counter() - begin}

    def prepare(self, case: Case) -> dict[str, Any]:
        """Run a case once; its result goes along as a check."""
        unet, vae, blocks = self.unet, self.vae, BLOCKS[case.task]
        dtype = getattr(torch, case.dtype)
        if self.kind != "whole":
            del unet.up_blocks[max(blocks) + 1 :]
            unet.conv_norm_out, unet.conv_out = None, nn.Identity()
        found = {}
        while self._hooks:  # of the case before
            self._hooks.pop().remove()
        for i in blocks:

            def hook(_, __, output, i=i):
                found[i] = output

            self._hooks.append(unet.up_blocks[i].register_forward_hook(hook))
        config = vae.config
        given = inputs(
            case,
            unet.config.in_channels,
            2 ** (len(config.block_out_channels) - 1),
            unet.config.cross_attention_dim,
        )
        tensors = {
            name: torch.tensor(value, device=self.device).to(dtype)
            for name, value in given.items()
        }
        images = tensors["images"].permute(0, 3, 1, 2)  # NHWC inside: channels last
        noise = tensors["noise"].permute(0, 3, 1, 2)
        level = self.schedule.alphas_cumprod[TIMESTEP].item()

        def encode(images):
            return vae.encode(images).latent_dist.mean * config.scaling_factor

        def describe(images, context):
            latents = encode(images)
            if case.kind == "encode":
                return latents.permute(0, 2, 3, 1)
            latents = latents.repeat_interleave(len(noise), 0) * level**0.5
            noised = latents + noise.repeat(len(images), 1, 1, 1) * (1 - level) ** 0.5
            noised = noised.contiguous(memory_format=torch.channels_last)
            unet(noised, TIMESTEP, context.expand(len(noised), -1, -1))
            levels = [
                nn.functional.normalize(found[i].float().amax((2, 3)), dim=1)
                for i in blocks
            ]
            joined = torch.cat(levels, 1).reshape(len(images), len(noise), -1)
            return nn.functional.normalize(joined.mean(1), dim=1)

        if self.kind == "compiled":
            describe = torch.compile(describe, dynamic=False)
        if case.kind == "train":
            run = self._train_step(case, describe, images, given["context"])
        else:

            def run():
                with torch.inference_mode():
                    result = describe(images, tensors["context"])
                self._synchronize()
                return result

        begin = time.perf_counter()
        result = run().float().cpu().ravel()[:4096].tolist()
        self._run, first = run, time.perf_counter() - begin
        run()
        reset_peak()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return {"first_seconds": first, "check": result}

    def _train_step(self, case: Case, describe: Any, images: Any, text: Any) -> Any:
        """One step of AdamW on two frames and the text states, as ours."""
        width, size = max(1, round(16 * case.size / 512)), case.size
        border = torch.ones(1, 1, size, size, device=self.device)
        border[..., width:-width, width:-width] = 0
        frames = [
            torch.zeros(1, 3, size, size, device=self.device, requires_grad=True)
            for _ in range(2)
        ]
        prompt = torch.tensor(text, device=self.device, requires_grad=True)
        optimiser = torch.optim.AdamW([*frames, prompt], lr=RATE, weight_decay=0.0)

        def run():
            which = [frames[0], frames[1], frames[1]]
            framed = torch.cat(
                [
                    part + (frame * border).to(part.dtype)
                    for part, frame in zip(images.chunk(3), which, strict=True)
                ]
            )
            found = describe(
                framed.contiguous(memory_format=torch.channels_last),
                prompt.to(images.dtype),
            )
            sketch, positive, negative = found.chunk(3)
            gap = ((negative - positive) * sketch).sum(1)
            loss = nn.functional.relu(MARGIN + gap).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self._synchronize()
            return loss.detach()

        return run

    def run(self) -> dict[str, float]:
        return timed(self._run)

    def peak(self) -> dict[str, int]:
        """Peak memory of the runs since the case was prepared."""
        if self.device.type == "cuda":
            return {"peak_bytes": torch.cuda.max_memory_allocated()}
        return {"peak_bytes": peak_bytes()}

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    serve(Side(sys.argv[1]))
