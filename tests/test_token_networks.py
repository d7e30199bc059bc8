"""Token matching's networks against PyTorch: recorded values always, live where it is
there; and their files."""

import importlib.util
import pathlib
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sbir_jax.adapters import token_files
from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.backbones.tensor_names import leaves, to_file
from sbir_jax.models.token_relation import Relation, RelationConfig
from sbir_jax.models.vision_transformer import VisionTransformer, ViTConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "zse.npz"
TORCH = importlib.util.find_spec("torch") is not None
LIMIT = 1e-5
SMALL = {
    "patch": 16, "width": 24, "depth": 3, "heads": 4, "mlp": 40,
    "stem": (4, 6, 8), "selects": (1,),
}  # fmt: skip
CASES = {
    "official": ({}, {"scrambled_reshape": True}),
    "clean": ({}, {}),
    "selecting": ({"keep": 0.9}, {"reduced": 0}),
}


def networks(case="clean"):
    vit, relation = CASES[case]
    relation = {"heads": 2, "mlp": 20, "reduced": 10, **relation}
    return (
        VisionTransformer(ViTConfig(**SMALL, **vit)),
        Relation(RelationConfig(**relation)),
    )


def images():
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32) for _ in range(2)]


def shapes(vit, relation, size=64):
    side = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    key = jax.random.key(0)
    source = jax.eval_shape(vit.init, key, side)["params"]
    states = jax.ShapeDtypeStruct(
        (1, vit.config.tokens(size) + 1, vit.config.width), jnp.float32
    )
    made = jax.eval_shape(relation.init, key, states, states)["params"]
    return TokenMatcher(source, made)


def numbers(name, shape):
    """As `tools.zse_reference` draws them, which needs torch."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    near = 1.0 if name.endswith(("norm.a", "_norm.weight", "_out.weight")) else 0.0
    return (near + 0.3 * rng.standard_normal(shape)).astype(np.float32)


def published(like, start=token_files.SOURCE):
    """A file of the release's names for this architecture."""
    found = {}
    for before, part in ((start, like.source), ("", like.relation)):
        for keys, leaf in leaves(part):
            name = before + token_files.published_name(keys)
            shape = tuple(leaf.shape[i] for i in to_file(keys, leaf.ndim))
            found[name] = numbers(name, shape)
    return found


def loaded(tmp_path, case="clean"):
    vit, relation = networks(case)
    like = shapes(vit, relation)
    save_file(published(like), tmp_path / "zse.safetensors")
    matcher, kept = token_files.load(tmp_path / "zse.safetensors", like)
    assert kept == []
    return vit, relation, matcher


def run(vit, relation, matcher):
    """Every step by the names of the recorder."""
    given = jnp.concatenate(images())
    tokens, inside = vit.apply(
        {"params": matcher.source},
        given,
        capture_intermediates=lambda module, _: (
            module.name and module.name.startswith("layers_")
        ),
    )
    found = {
        f"layer {name.split('_')[1]}": value["__call__"][0][0]
        for name, value in inside["intermediates"]["transformer"].items()
    }
    pair = np.split(tokens.states, 2)
    related = relation.apply({"params": matcher.relation}, *pair)
    return found | related._asdict() | {"states": tokens.states}, tokens.patches


def assert_near(ours, theirs):
    assert set(ours) == set(theirs) - {"embedded"}
    for name, value in ours.items():
        wanted = theirs[name]
        assert value.shape == wanted.shape, name
        error = np.abs(np.asarray(value) - wanted).max() / np.abs(wanted).max()
        assert error <= LIMIT, f"{name}: {error:.2e}"


@pytest.mark.parametrize("case", CASES)
def test_every_step_is_what_pytorch_recorded(case, tmp_path):
    with np.load(GOLDEN) as file:
        wanted = {
            name.partition("/")[2]: file[name]
            for name in file.files
            if name.startswith(f"{case}/")
        }
    found, patches = run(*loaded(tmp_path, case))
    assert_near(found, wanted)
    assert patches.shape == (4, 15 if case == "selecting" else 16)


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
@pytest.mark.parametrize("case", CASES)
def test_every_step_is_what_pytorch_computes(case, tmp_path):
    from tools import zse_reference

    model = zse_reference.small(**zse_reference.CASES[case])
    wanted = zse_reference.run(model, *images())
    found, _ = run(*loaded(tmp_path, case))
    assert_near(found, wanted)


def test_the_scrambled_reshape_is_not_the_clean_one(tmp_path):
    vit, relation, matcher = loaded(tmp_path)
    scrambled = networks("official")[1]
    clean, official = (run(vit, r, matcher)[0] for r in (relation, scrambled))
    np.testing.assert_array_equal(clean["sketch_map"], official["sketch_map"])
    assert np.abs(clean["alike"] - official["alike"]).max() > 0.1


def test_the_published_size_has_the_published_names_and_shapes():
    vit = VisionTransformer(ViTConfig())
    relation = Relation(RelationConfig(scrambled_reshape=True))
    like = shapes(vit, relation, 224)
    names = {
        start + token_files.published_name(keys): tuple(
            leaf.shape[i] for i in to_file(keys, leaf.ndim)
        )
        for start, part in (("sa.model.", like.source), ("", like.relation))
        for keys, leaf in leaves(part)
    }
    for name, shape in {
        "sa.model.cls": (1, 1, 768),
        "sa.model.pos_embedding": (1, 197, 768),
        "sa.model.embedding.weight": (768, 3, 16, 16),
        "sa.model.scale.seq.6.weight": (768, 256, 3, 3),
        "sa.model.transformer.encoder_norm.bias": (768,),
        "sa.model.transformer.layers.11.0.layer_norm_input.weight": (768,),
        "sa.model.transformer.layers.0.0.attention.to_qkv.weight": (2304, 768),
        "sa.model.transformer.layers.0.0.attention.to_out.0.bias": (768,),
        "sa.model.transformer.layers.0.0.mlp.net.3.weight": (768, 3072),
        "ca.encoder.layer1.0.self_attn.linears.3.weight": (768, 768),
        "ca.encoder.layer2.0.feed_forward.w_1.weight": (1024, 768),
        "ca.encoder.layer2.0.sublayer.1.norm.a": (768,),
        "rn.rn.0.weight": (343, 2401),
        "rn.rn.3.weight": (49, 343),
        "rn.rn.6.bias": (1,),
        "conv2d.weight": (512, 768, 2, 2),
    }.items():
        assert names[name] == shape
    assert len(names) == 2 + 2 + 4 + 2 + 12 * 12 + 2 * (8 + 4 + 4) + 6 + 2


def test_kept_tokens_are_the_published_counts():
    counts = [ViTConfig(keep=0.9, selects=(3, 6, 9)[:n]).tokens(224) for n in (1, 2, 3)]
    assert counts == [177, 160, 144]
    assert RelationConfig().anchors(196) == 49
    with pytest.raises(ValueError, match=r"176 tokens.*relation\.reduced=0"):
        RelationConfig().anchors(176)


def test_the_tokens_that_stay_are_those_looked_at_most(tmp_path):
    vit, _, matcher = loaded(tmp_path, "selecting")
    given = jnp.concatenate(images())
    _, inside = vit.apply({"params": matcher.source}, given, capture_intermediates=True)
    block = inside["intermediates"]["transformer"]["layers_1_0"]
    weights = np.asarray(block["attention"]["__call__"][0][1])
    patches = np.asarray(vit.apply({"params": matcher.source}, given).patches)
    for looks, kept in zip(weights, patches, strict=True):
        assert np.all(np.diff(kept) > 0)
        assert set(range(16)) - set(kept.tolist()) == {int(looks.argmin())}


@pytest.mark.parametrize("layout", ["sam", "timm"])
def test_a_transformer_alone_is_taken_up(layout, tmp_path):
    vit, relation = networks()
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes(vit, relation))
    given = {
        name: value
        for name, value in published(like, "").items()
        if not name.startswith(("ca.", "rn.", "conv2d", "scale."))
    }
    given["mlp_head.weight"] = np.zeros((5, 24), np.float32)
    if layout == "timm":
        given = {
            "head.weight" if "mlp_head" in name else token_files.timm_name(name): value
            for name, value in given.items()
        }
        assert "blocks.2.attn.qkv.weight" in given and "norm.bias" in given
    save_file(given, tmp_path / "vit.safetensors")
    matcher, kept = token_files.load(tmp_path / "vit.safetensors", like)
    assert len(kept) == 2
    assert not np.any(matcher.source["scale"]["seq_0"]["kernel"])
    kernel = matcher.source["transformer"]["layers_2_0"]["attention"]["to_qkv"]
    wanted = numbers("transformer.layers.2.0.attention.to_qkv.weight", (72, 24))
    np.testing.assert_array_equal(kernel["kernel"], wanted.T)


def test_what_does_not_fit_is_named(tmp_path):
    vit, relation = networks()
    like, path = shapes(vit, relation), tmp_path / "zse.safetensors"
    given = published(like)
    given["ca.encoder.layers.0.self_attn.linears.0.weight"] = np.zeros(3)  # never run
    save_file(given, path)
    token_files.load(path, like)
    for change, message in (
        ({"rn.rn.6.bias": None}, "rn.rn.6.bias is missing"),
        ({"sa.model.extra": np.zeros(2)}, "extra is not expected"),
        ({"rn.rn.6.bias": np.zeros(2)}, r"rn.rn.6.bias is \(2,\), not \(1,\)"),
    ):
        changed = {**given, **change}
        save_file({n: x for n, x in changed.items() if x is not None}, path)
        with pytest.raises(ValueError, match=message):
            token_files.load(path, like)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="not valid safetensors"):
        token_files.load(path, like)
    (tmp_path / "best.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"never unpickled.*convert_zse_sbir"):
        token_files.load(tmp_path / "best.pth", like)


def test_what_is_saved_is_loaded(tmp_path):
    _, _, matcher = loaded(tmp_path)
    token_files.save(tmp_path / "again.safetensors", matcher)
    first, again = (
        load_file(tmp_path / f"{name}.safetensors") for name in ("zse", "again")
    )
    assert set(first) == set(again)
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
def test_a_checkpoint_is_converted_and_never_unpickled(tmp_path):
    import torch

    vit, relation = networks()
    like = shapes(vit, relation)
    given = {n: torch.from_numpy(x) for n, x in published(like).items()}
    kept = {"model": given, "epoch": 3, "map_all": np.float64(0.5)}
    torch.save(kept, tmp_path / "best.pth")
    torch.save({"model": given, "hook": pathlib.Path}, tmp_path / "hostile.pth")

    def convert(name):
        command = [sys.executable, "-m", "tools.convert_zse_sbir"]
        given = [str(tmp_path / f"{name}.pth"), str(tmp_path / f"{name}.safetensors")]
        return subprocess.run(command + given, cwd=ROOT, capture_output=True, text=True)

    done = convert("best")
    assert done.returncode == 0, done.stderr
    matcher, _ = token_files.load(tmp_path / "best.safetensors", like)
    wanted = numbers("rn.rn.6.bias", (1,))
    np.testing.assert_array_equal(matcher.relation["rn"]["rn_6"]["bias"], wanted)
    refused = convert("hostile")
    assert refused.returncode and "is not unpickled" in refused.stderr
    assert not (tmp_path / "hostile.safetensors").exists()
