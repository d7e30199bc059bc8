"""PixArt: against PyTorch, sizes of the real ones, names, texts, what is refused."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sbir_jax.adapters import sketch_adapter
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones import diffusers_files, sanity
from sbir_jax.backbones.frozen import encode_texts, load_frozen, text_states
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.pixart_files import transformer_shapes
from sbir_jax.backbones.transformer_files import t5_shapes
from sbir_jax.dense.daam import prompt_of, token_spans
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.models.pixart import positions
from sbir_jax.models.transformer_configs import PixArtConfig, T5TextConfig
from sbir_jax.runtime.sharding import make_mesh
from sbir_jax.types import TextStates
from tests.transformer_checks import T5_XXL, assert_near, count, cross_names, jitted
from tools import study

ROOT = pathlib.Path(__file__).resolve().parent
GOLDEN = ROOT / "golden"
KINDS = ("pixart_alpha", "pixart_sigma")
WEIGHTS = "diffusion_pytorch_model.safetensors"

# The config.json of PixArt-alpha's transformer at 512 px, and of its text encoder.
ALPHA = {
    "_class_name": "Transformer2DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 72,
    "attention_type": "default",
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "double_self_attention": False,
    "dropout": 0.0,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_single",
    "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 64,
    "upcast_attention": False,
    "use_linear_projection": False,
}


@functools.cache
def golden(kind):
    with np.load(GOLDEN / f"{kind}.npz") as recorded:
        return load_backbone(GOLDEN / kind), dict(recorded)


def run(loaded, latents, t, context, mask):
    """All activations and cross-attention maps, named as the recorder names them."""
    backbone = loaded.backbone
    names = {"taps": backbone.tap_names, "maps": cross_names(backbone)}
    # The recorded mask has the end of each text in it, ours the words alone.
    words = mask & np.pad(mask, ((0, 0), (0, 1)))[:, 1:]
    text = TextStates(jnp.asarray(context), jnp.asarray(words))
    read = jitted(functools.partial(backbone.read, **names))
    found = read(loaded.frozen, jnp.asarray(latents), jnp.asarray(t), text)
    taps = {f"tap/{name}": value for name, value in found.taps.items()}
    return taps | {f"map/{name}": value for name, value in found.maps.items()}


def run_text(loaded, tokens):
    backbone, tokens = loaded.backbone, jnp.asarray(tokens)
    weights = {"params": loaded.frozen["text_encoder"]}
    return {"states": jitted(backbone.text_encoder.apply)(weights, tokens, tokens != 0)}


def inputs_of(recorded):
    return {name: recorded[name] for name in ("latents", "t", "context", "mask")}


@pytest.mark.parametrize("kind", KINDS)
def test_transformer_gives_the_recorded_activations_and_maps(kind):
    loaded, recorded = golden(kind)
    values = {name: x for name, x in recorded.items() if name[:4] in ("tap/", "map/")}
    assert len(values) == 3 * 3 + 2
    assert_near(run(loaded, **inputs_of(recorded)), values)


@pytest.mark.parametrize("kind", KINDS)
def test_text_encoder_gives_the_recorded_states(kind):
    loaded, recorded = golden(kind)
    assert_near(run_text(loaded, recorded["tokens"]), {"states": recorded["states"]})


def test_text_states_end_with_the_text():
    """Past the end there is the end's state, so that states alone are an empty text."""
    loaded, recorded = golden("pixart_alpha")
    backbone, tokens = loaded.backbone, recorded["tokens"]
    found = jitted(backbone.encode_text)(loaded.frozen, tokens)
    states = recorded["states"]
    np.testing.assert_array_equal(found.mask.sum(1), [39, 4])
    np.testing.assert_allclose(found.states[0], states[0], atol=1e-4)
    np.testing.assert_allclose(found.states[1, :5], states[1, :5], atol=1e-4)
    end = np.broadcast_to(states[1, 4], (35, 16))
    np.testing.assert_allclose(found.states[1, 5:], end, atol=1e-4)
    np.testing.assert_array_equal(found.pooled, found.states[jnp.arange(2), [39, 4]])


def test_words_are_read_in_small_letters_and_cut():
    backbone = golden("pixart_alpha")[0].backbone
    found = backbone.tokenize(["", " A red MUG", "two chairs " * 100])
    assert found.shape == (3, 120) and found.dtype == np.int32
    assert found[0, 0] == 1 and not found[0, 1:].any()
    np.testing.assert_array_equal(found[1, :5], [4, 5, 6, 1, 0])
    assert found[2, -1] == 1 and (found[2] != 0).all()
    assert golden("pixart_sigma")[0].backbone.tokenize([""]).shape == (1, 300)


def test_words_are_found_without_a_start_token():
    backbone = golden("pixart_alpha")[0].backbone
    words = ["mug", "red chairs"]
    spans = token_spans(backbone, words, backbone.text_length)
    (ids,) = backbone.tokenize([prompt_of(words)])
    assert [list(ids[span]) for span in spans] == [[6], [5, 8]]


def test_padding_changes_nothing():
    """Neither its states nor how much of it there is; learned states are all seen."""
    loaded, recorded = golden("pixart_alpha")
    backbone, name = loaded.backbone, "block.1.cross"
    latents = jnp.asarray(recorded["latents"][:1])
    states = jnp.asarray(recorded["context"][:1])
    words = jnp.arange(7)[None] < 2
    read = jitted(functools.partial(backbone.read, taps=("out",), logits=(name,)))
    one = read(loaded.frozen, latents, 5, TextStates(states, words))
    other = read(loaded.frozen, latents, 5, TextStates(states.at[:, 3:].add(9), words))
    np.testing.assert_array_equal(one.taps["out"], other.taps["out"])
    short = read(loaded.frozen, latents, 5, TextStates(states[:, :3], words[:, :3]))
    np.testing.assert_allclose(one.taps["out"], short.taps["out"], atol=1e-4)
    assert jnp.isfinite(one.logits[name]).all()
    learned = read(loaded.frozen, latents, 5, TextStates(states))
    assert jnp.abs(learned.taps["out"] - one.taps["out"]).max() > 1e-3


def test_extra_keys_are_seen_behind_a_short_text():
    loaded, recorded = golden("pixart_alpha")
    name, rng = "block.0.cross", np.random.default_rng(0)
    kv = {name: tuple(jnp.asarray(rng.normal(size=(2, 3, 24)), "f"))}
    text = TextStates(
        jnp.asarray(recorded["context"]), jnp.arange(7)[None] < jnp.array([[6], [2]])
    )
    read = jitted(functools.partial(loaded.backbone.read, maps=(name,)))
    maps = read(loaded.frozen, recorded["latents"], 5, text, kv=kv).maps[name]
    assert maps.shape == (2, 2, 4, 6, 10)
    assert not maps[1, ..., 3:7].any() and (maps[1, ..., 7:] > 0).all()
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)


def test_queries_and_keys_give_the_logits():
    loaded, recorded = golden("pixart_sigma")
    backbone, names = loaded.backbone, cross_names(loaded.backbone)[:2]
    text = TextStates(jnp.asarray(recorded["context"]))
    read = functools.partial(backbone.read, logits=names, queries=names)
    found = jitted(read)(loaded.frozen, recorded["latents"], 5, text)
    keys = jitted(backbone.keys, static_argnums=2)(loaded.frozen, text, names)
    for name in names:
        logits = jnp.einsum("bhyxw,bhnw->bhyxn", found.queries[name], keys[name])
        np.testing.assert_allclose(
            logits * 12**-0.5, found.logits[name], rtol=1e-4, atol=1e-4
        )


def test_outputs_are_what_is_added():
    """A block without its feed-forward part adds what its attention layers add."""
    loaded, recorded = golden("pixart_alpha")
    block = loaded.frozen["unet"]["transformer_blocks_0"]
    silent = jax.tree.map(jnp.zeros_like, block["ff"])
    frozen = {**loaded.frozen["unet"], "transformer_blocks_0": {**block, "ff": silent}}
    names = ("block.0.self", "block.0.cross")
    taps = ("patches", "block.0")
    read = jitted(functools.partial(loaded.backbone.read, taps=taps, outputs=names))
    text = TextStates(jnp.asarray(recorded["context"]))
    found = read({"unet": frozen}, recorded["latents"], jnp.array([3, 801]), text)
    total = found.taps["patches"] + sum(found.outputs.values())
    np.testing.assert_allclose(found.taps["block.0"], total, atol=1e-4)


def test_residuals_join_the_running_state():
    loaded, recorded = golden("pixart_alpha")
    backbone, context = loaded.backbone, jnp.asarray(recorded["context"])
    assert backbone.residual_names == ("patches", "block.0", "block.1", "block.2")
    read = jitted(functools.partial(backbone.read, taps=("block.1", "out")))
    given = loaded.frozen, recorded["latents"], 5, TextStates(context)
    plain, rng = read(*given).taps, np.random.default_rng(0)
    residual = jnp.asarray(rng.normal(size=(1, 4, 6, 24)), "f")
    found = read(*given, residuals={"block.1": residual}).taps
    np.testing.assert_allclose(found["block.1"], plain["block.1"] + residual, atol=1e-4)
    assert jnp.abs(found["out"] - plain["out"]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "total"),
    [
        ({}, 610_856_096),
        ({"sample_size": 128}, 611_349_152),
        ({"sample_size": 128, "use_additional_conditions": False}, 610_856_096),
    ],
    ids=["alpha 512", "alpha 1024", "sigma 1024"],
)
def test_full_size_parameters(change, total):
    config = PixArtConfig.from_json(ALPHA | change)
    assert count(transformer_shapes(config)) == total
    early = transformer_shapes(config, ("block.13.modulated",))
    blocks = [name for name in early if name.startswith("transformer_blocks_")]
    assert len(blocks) == 14 and "proj_out" not in early
    # What the last block's attention is given needs none of its weights.
    assert set(early["transformer_blocks_13"]) == {"scale_shift_table"}
    assert set(transformer_shapes(config, ("patches",))) == {"pos_embed"}


def test_full_size_text_encoder():
    assert count(t5_shapes(T5TextConfig.from_json(T5_XXL))) == 4_762_310_656


def test_positions_span_the_same_range_at_every_size():
    """And the scale divides them: twice as fine a grid of twice the net is the same."""
    config = PixArtConfig.from_json(ALPHA)
    own, twice = positions(config, 32, 32), positions(config, 64, 64)
    np.testing.assert_allclose(own, twice[:, ::2, ::2], atol=1e-6)
    larger = PixArtConfig.from_json(ALPHA | {"sample_size": 128})
    assert larger.scale == 2
    np.testing.assert_allclose(positions(larger, 64, 64), twice, atol=1e-6)
    # Columns come first.
    assert np.ptp(own[0, :, :, :576], axis=0).max() == 0
    assert np.ptp(own[0, :, :, 576:], axis=1).max() == 0


def test_descriptors_and_the_check_of_a_model(tmp_path, monkeypatch):
    """The rest of the package takes it for what every backbone is."""
    monkeypatch.setattr(sanity, "_cache", lambda: tmp_path / "checked")
    taps = ("block.0.modulated", "block.1")
    loaded = load_frozen(GOLDEN / "pixart_alpha", taps, make_mesh(), "float32")
    assert set(loaded.frozen["unet"]["transformer_blocks_1"]) > {"attn1", "attn2", "ff"}
    assert "transformer_blocks_2" not in loaded.frozen["unet"]
    start = text_states(loaded, [""])[0]
    prompts = init_prompts(PromptConfig(border=1), 32, start)
    embedder = Embedder(loaded, prompts, Recipe(taps, copies=1), 32, batch_size=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = embedder.embed(pixels, "photo")
    assert found.shape == (2, 48) and np.abs(found[0] - found[1]).max() > 1e-3
    whole = golden("pixart_alpha")[0]
    # States alone, as prompts are, read as the empty text that they are of.
    empty, latents = encode_texts(whole, [""]), jnp.ones((1, 4, 4, 4))
    predict = jitted(whole.backbone.predict)
    text = predict(whole.frozen, latents, 5, empty)
    alone = predict(whole.frozen, latents, 5, TextStates(empty.states))
    np.testing.assert_allclose(text, alone, atol=1e-5)


def test_bfloat16_follows_float32():
    loaded, recorded = golden("pixart_sigma")
    half = load_backbone(GOLDEN / "pixart_sigma", dtype=jnp.bfloat16)
    text = TextStates(jnp.asarray(recorded["context"]))
    latents = jnp.asarray(recorded["latents"])
    taps = ("block.2.modulated",)
    found, expected = (
        jitted(functools.partial(given.backbone.read, taps=taps))(
            given.frozen, latents.astype(given.backbone.dtype), 5, text
        ).taps[taps[0]]
        for given in (half, loaded)
    )
    assert found.dtype == jnp.bfloat16
    error = jnp.abs(found.astype(jnp.float32) - expected).max()
    assert error < 0.06 * jnp.abs(expected).max()


def test_files_of_a_repository_with_a_transformer():
    names = ("config.json", "diffusion_pytorch_model.safetensors")
    files = [f"{part}/{name}" for part in ("transformer", "vae") for name in names]
    files += ["model_index.json", "text_encoder/config.json", "README.md"]
    index = "text_encoder/model.safetensors.index.json"
    shards = [f"text_encoder/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    files += [index, *shards, "tokenizer/spiece.model"]
    needed = diffusers_files.needed_files(files)
    assert set(needed) == {*files} - {"README.md"}
    with pytest.raises(ValueError, match=r"no text_encoder/\*.safetensors"):
        diffusers_files._choose("some/net", [f for f in files if f not in shards])


def test_a_study_reads_every_block():
    known = golden("pixart_alpha")[0].backbone.tap_names
    found = study.find_taps(known, study.usual_taps(known))
    assert found == tuple(f"block.{i}.modulated" for i in range(3))
    known = ("down.0.out", "up.0.out", "up.1.out", "out")
    assert study.usual_taps(known) == ["up.*.out"]


@pytest.fixture
def folder(tmp_path):
    """A copy of a recorded checkpoint, to be damaged."""
    return pathlib.Path(shutil.copytree(GOLDEN / "pixart_alpha", tmp_path / "model"))


ODD = {"attention_head_dim": 11, "cross_attention_dim": 22}
CONDITIONED = {"use_additional_conditions": True}


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("transformer", {"norm_type": "ada_norm_zero"}, "norm_type='ada_norm_zero'"),
        ("transformer", {"attention_type": "gated"}, "attention_type='gated'"),
        ("transformer", {"caption_channels": None}, "value for caption_channels"),
        ("transformer", {"caption_channels": 8}, "text states have 16 .* takes 8"),
        (
            "transformer",
            {"in_channels": 16},
            "out_channels=8 is not supported, only 16",
        ),
        (
            "transformer",
            {"cross_attention_dim": 20},
            "only the width of the layers, 24",
        ),
        ("transformer", ODD, "=22 is not .* multiples of 4"),
        (
            "transformer",
            {"patch_size": 3},
            "patch_size=3 does not divide sample_size=8",
        ),
        ("transformer", {"num_layers": 60}, "3 tensors named .*attn1.* with 60"),
        ("transformer", {"depth": 28}, "unknown key 'depth'"),
        ("transformer", CONDITIONED, "8 missing: adaln_single.emb.aspect"),
        ("text_encoder", {"feed_forward_proj": "relu"}, "only T5 1.1's 'gated-gelu'"),
        ("text_encoder", {"model_type": "umt5"}, "model_type='umt5' is not supported"),
        ("text_encoder", {"relative_attention_max_distance": 2}, "a quarter of rel"),
        ("vae", {"act_fn": "relu"}, "act_fn='relu' is not supported"),
    ],
)
def test_configs_we_cannot_follow(folder, part, values, message):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(folder, parts=())
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_transformers_of_other_families(folder):
    index = folder / "model_index.json"
    index.write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(ValueError, match=r"'FluxPipeline', whose.*PixArt"):
        load_backbone(folder, parts=())
    index.unlink()
    with pytest.raises(ValueError, match=r"model_index.json: _class_name is None"):
        load_backbone(folder, parts=())


def test_the_older_class_has_other_defaults():
    """An absent key of it does not mean what it means to the newer one."""
    content = {k: v for k, v in ALPHA.items() if k != "attention_bias"}
    with pytest.raises(ValueError, match="attention_bias=False is not supported"):
        PixArtConfig.from_json(content)
    PixArtConfig.from_json(content | {"_class_name": "PixArtTransformer2DModel"})


def test_tensors_that_do_not_fit(folder):
    path = folder / "transformer" / WEIGHTS
    tensors = load_file(path)
    del tensors["transformer_blocks.1.scale_shift_table"]
    tensors["caption_projection.y_embedding"] = np.zeros((120, 16), np.float16)
    tensors["transformer_blocks.0.attn1.norm_q.weight"] = np.zeros(12, np.float16)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ValueError) as error:
        load_backbone(folder, parts=())
    says = str(error.value)
    assert "1 missing: transformer_blocks.1.scale_shift_table;" in says
    assert "1 not expected: transformer_blocks.0.attn1.norm_q.weight." in says


def test_what_this_family_cannot():
    loaded, recorded = golden("pixart_alpha")
    with pytest.raises(ValueError, match=r"has no encoder whose levels.*with a UNet"):
        sketch_adapter.network(loaded.backbone, loaded.frozen)
    text = TextStates(jnp.asarray(recorded["context"]))
    read = functools.partial(loaded.backbone.read, loaded.frozen)
    for latents, given, message in (
        ((2, 8, 12, 4), {"taps": ("up.1.out",)}, r"unknown taps \['up.1.out'\]"),
        ((2, 8, 12, 4), {}, "nothing else was asked for"),
        ((2, 7, 12, 4), {"taps": ("out",)}, "7 x 12.*multiples of 2"),
        ((2, 8, 12, 3), {"taps": ("out",)}, "3 channels.*takes 4 and 16"),
        ((3, 8, 12, 4), {"taps": ("out",)}, "2 contexts for 3 latents"),
    ):
        with pytest.raises(ValueError, match=message):
            read(jnp.zeros(latents), 5, text, **given)


def test_two_loads_are_one_backbone():
    again = load_backbone(GOLDEN / "pixart_alpha", parts=())
    mine = golden("pixart_alpha")[0].backbone
    assert again.backbone == mine and hash(again.backbone) == hash(mine)
    assert dataclasses.replace(mine, text_length=7) != mine and not again.frozen


@functools.cache
def oracle():
    """The recorder as a module, or a skip without PyTorch."""
    for name in ("torch", "diffusers"):
        pytest.importorskip(name)
    path = ROOT.parent / "tools" / "make_pixart_golden.py"
    spec = importlib.util.spec_from_file_location("make_pixart_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_live_networks_of_another_shape(tmp_path):
    """Single patches, no variance, three heads, and a text beyond the last distance."""
    make = oracle()
    other = {
        "num_attention_heads": 3,
        "cross_attention_dim": 36,
        "num_layers": 2,
        "out_channels": 4,
        "patch_size": 1,
        "norm_eps": 1e-3,
    }
    transformer = make.small_transformer("pixart_sigma", 1, **other)
    t5 = make.small_t5(1, relative_attention_num_buckets=32, num_heads=3)
    make.save(tmp_path, "pixart_sigma", transformer, t5, make.small_vae(1))
    loaded = load_backbone(tmp_path)
    inputs = make.transformer_inputs(transformer, 5, 3, seed=2)
    theirs = make.record_transformer(transformer, **inputs)
    assert_near(run(loaded, **inputs), theirs)
    tokens = make.texts(290, 16, seed=3)
    assert_near(run_text(loaded, tokens), {"states": make.record_t5(t5, tokens)})
