"""ZSE-SBIR as its release defines it, read into PyTorch: the oracle of our networks.

    python -m tools.zse_reference        records tests/golden/zse.npz (needs torch)

Written from the facts of the release (names of parameters, order of operations), small
enough to be read beside them. With a keep rate below 1 it does what the paper says: the
release drops the attention's result there. Weights are numbers drawn by each tensor's
name, so that a test without torch has the same ones.
"""

import math
import pathlib
import zlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
SMALL = {
    "size": 64, "patch": 16, "width": 24, "depth": 3, "heads": 4, "mlp": 40,
    "stem": (4, 6, 8), "cross_heads": 2, "cross_mlp": 20, "reduced": 10,
}  # fmt: skip
CASES = {
    "official": {"scrambled": True},
    "clean": {"scrambled": False},
    "selecting": {"keep": 0.9, "reduced": 0},
}


class Layer(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.heads = heads
        self.layer_norm_input, self.layer_norm_out = (
            nn.LayerNorm(width) for _ in range(2)
        )
        self.attention = nn.Module()
        self.attention.to_qkv = nn.Linear(width, 3 * width)
        self.attention.to_out = nn.Sequential(nn.Linear(width, width))
        self.mlp = nn.Module()
        self.mlp.net = nn.Sequential(
            nn.Linear(width, mlp), nn.GELU(), nn.Identity(), nn.Linear(mlp, width)
        )

    def forward(self, x, keep):
        b, m, width = x.shape
        joined = self.attention.to_qkv(self.layer_norm_input(x))
        q, k, v = joined.view(b, m, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) / math.sqrt(width / self.heads)).softmax(-1)
        x = x + self.attention.to_out((weights @ v).transpose(1, 2).reshape(b, m, -1))
        if keep < 1:
            looks = weights[:, :, 0, 1:].mean(1)
            best = looks.topk(math.ceil(keep * (m - 1))).indices.sort().values
            rows = best[..., None].expand(-1, -1, width)
            x = torch.cat([x[:, :1], x[:, 1:].gather(1, rows)], 1)
        return x + self.mlp.net(self.layer_norm_out(x))


class Transformer(nn.Module):
    def __init__(self, size, patch, width, depth, heads, mlp, stem, keep):
        super().__init__()
        self.keep = keep
        count = (size // patch) ** 2
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.zeros(1, count + 1, width))
        self.embedding = nn.Conv2d(3, width, patch, patch)
        self.scale = nn.Module()
        layers, before = [], 3
        for i, channels in enumerate((*stem, width)):
            side = 3 if i else 7
            layers += [nn.Conv2d(before, channels, side, 2, side // 2, bias=False)]
            layers += [nn.ReLU()]
            before = channels
        self.scale.seq = nn.Sequential(*layers[:-1])
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList([Layer(width, heads, mlp)]) for _ in range(depth)
        )
        self.transformer.encoder_norm = nn.LayerNorm(width)

    def forward(self, images, found):
        x = (self.embedding(images) + self.scale.seq(images)) / 2
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos_embedding
        found["embedded"] = x
        for i, (layer,) in enumerate(self.transformer.layers):
            x = found[f"layer {i}"] = layer(x, self.keep if i == 1 else 1)
        return self.transformer.encoder_norm(x)


class DeviationNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = (
            nn.Parameter(torch.ones(width)),
            nn.Parameter(torch.ones(width)),
        )

    def forward(self, x):
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.a * (x - mean) / (deviation + 1e-6) + self.b


class CrossLayer(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.heads = heads
        self.self_attn, self.feed_forward = nn.Module(), nn.Module()
        self.self_attn.linears = nn.ModuleList(
            nn.Linear(width, width) for _ in range(4)
        )
        self.feed_forward.w_1 = nn.Linear(width, mlp)
        self.feed_forward.w_2 = nn.Linear(mlp, width)
        self.sublayer = nn.ModuleList(nn.Module() for _ in range(2))
        for part in self.sublayer:
            part.norm = DeviationNorm(width)

    def forward(self, own, other):
        b, m, width = own.shape
        *inputs, last = self.self_attn.linears
        q, k, v = (
            linear(x).view(b, m, self.heads, -1).transpose(1, 2)
            for linear, x in zip(inputs, (own, other, own), strict=True)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        y = last((weights @ v).transpose(1, 2).reshape(b, m, width))
        x = self.sublayer[0].norm(own + y)
        y = self.feed_forward.w_2(F.relu(self.feed_forward.w_1(x)))
        return self.sublayer[1].norm(x + y), weights


class ZSE(nn.Module):
    """The whole system; `forward` gives what every step makes."""

    def __init__(
        self, size, patch, width, depth, heads, mlp, stem, cross_heads, cross_mlp,
        reduced, scrambled=False, keep=1.0,
    ):  # fmt: skip
        super().__init__()
        self.scrambled, self.reduced = scrambled, reduced
        self.sa, self.ca, self.rn = nn.Module(), nn.Module(), nn.Module()
        self.sa.model = Transformer(size, patch, width, depth, heads, mlp, stem, keep)
        self.ca.encoder = nn.Module()
        for name in ("layers", "layer1", "layer2"):
            layer = CrossLayer(width, cross_heads, cross_mlp)
            setattr(self.ca.encoder, name, nn.ModuleList([layer]))
        count = (size // patch) ** 2
        anchors = count // 4 if reduced else math.ceil(keep * count)
        hidden = anchors * round(math.sqrt(anchors))
        self.rn.rn = nn.Sequential(
            nn.Linear(anchors**2, hidden), nn.ReLU(), nn.Identity(),
            nn.Linear(hidden, anchors), nn.ReLU(), nn.Identity(), nn.Linear(anchors, 1),
        )  # fmt: skip
        if reduced:
            self.conv2d = nn.Conv2d(width, reduced, 2, 2)

    def forward(self, sketch, photo):
        found = {}
        states = self.sa.model(torch.cat([sketch, photo]), found)
        own, other = states.chunk(2)
        new, found["sketch_map"] = self.ca.encoder.layer1[0](own, other)
        other, found["photo_map"] = self.ca.encoder.layer2[0](other, own)
        both = torch.cat([new, other])
        rows = both[:, 1:]
        if self.reduced:
            b, n, width = rows.shape
            side = math.isqrt(n)
            if self.scrambled:
                grid = rows.reshape(b, width, side, side)
            else:
                grid = rows.transpose(1, 2).reshape(b, width, side, side)
            rows = self.conv2d(grid).flatten(2).transpose(1, 2)
        sketches, photos = F.normalize(rows, dim=-1).chunk(2)
        alike = sketches @ photos.transpose(1, 2)
        found |= {"states": states, "sketch": new[:, 0], "photo": other[:, 0]}
        found |= {"alike": alike, "logit": self.rn.rn(alike.flatten(1))[:, 0]}
        return found


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's values, by its name; norms stay near 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    near = 1.0 if name.endswith(("norm.a", "_norm.weight", "_out.weight")) else 0.0
    return (near + 0.3 * rng.standard_normal(shape)).astype(np.float32)


def images(count: int = 2, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Sketches and photos, channels last, in [-1, 1]."""
    rng = np.random.default_rng(0)
    return tuple(
        rng.uniform(-1, 1, (count, size, size, 3)).astype(np.float32) for _ in range(2)
    )


def small(**changes) -> ZSE:
    model = ZSE(**{**SMALL, **changes})
    for name, parameter in model.named_parameters():
        parameter.data = torch.from_numpy(numbers(name, tuple(parameter.shape)))
    return model.eval().requires_grad_(False)


def run(model: ZSE, *given: np.ndarray) -> dict[str, np.ndarray]:
    turned = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in given]
    return {name: value.numpy() for name, value in model(*turned).items()}


def main() -> None:
    found = {
        f"{case}/{name}": value
        for case, changes in CASES.items()
        for name, value in run(small(**changes), *images()).items()
    }
    np.savez_compressed(GOLDEN / "zse.npz", **found)
    print(f"{GOLDEN / 'zse.npz'}: {len(found)} arrays")


if __name__ == "__main__":
    main()
