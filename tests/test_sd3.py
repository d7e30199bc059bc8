"""Stable Diffusion 3: against PyTorch, real sizes, texts, files, what is refused."""

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

from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones import diffusers_files, sampling, sanity
from sbir_jax.backbones.frozen import load_frozen, text_states
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.stable_diffusion_3_files import transformer_shapes
from sbir_jax.backbones.stable_diffusion_files import shapes
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe, default_taps
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import ProjectedCLIPText
from sbir_jax.models.configs import AutoencoderConfig, ProjectedCLIPTextConfig
from sbir_jax.models.mmdit_config import MMDiTConfig
from sbir_jax.runtime.sharding import make_mesh
from sbir_jax.types import TextStates
from tests.transformer_checks import assert_near, count, cross_names, jitted

ROOT = pathlib.Path(__file__).resolve().parent
GOLDEN = ROOT / "golden"
KINDS = ("sd3", "sd35")
WEIGHTS = "diffusion_pytorch_model.safetensors"

# The config.json of Stable Diffusion 3 medium's transformer, and how others differ.
MEDIUM = {
    "_class_name": "SD3Transformer2DModel",
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "in_channels": 16,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 24,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "sample_size": 128,
}
MEDIUM_35 = {
    "dual_attention_layers": list(range(13)),
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
}
LARGE_35 = {
    "caption_projection_dim": 2432,
    "num_attention_heads": 38,
    "num_layers": 38,
    "qk_norm": "rms_norm",
}


@functools.cache
def golden(kind):
    with np.load(GOLDEN / f"{kind}.npz") as recorded:
        return load_backbone(GOLDEN / kind), dict(recorded)


def run(loaded, latents, t, context, pooled):
    """All activations and shares of attention, named as the recorder names them. `t` is
    what the network is told."""
    names = loaded.backbone.tap_names, cross_names(loaded.backbone)
    given = (jnp.asarray(x) for x in (latents, t, context, pooled))
    read = functools.partial(loaded.backbone.transformer.apply, taps=names[0])
    read = jitted(functools.partial(read, maps=names[1]))
    found = read({"params": loaded.frozen["unet"]}, *given)
    taps = {f"tap/{name}": value for name, value in found.taps.items()}
    return taps | {f"map/{name}": value for name, value in found.maps.items()}


def inputs_of(recorded):
    return {name: recorded[name] for name in ("latents", "t", "context", "pooled")}


@pytest.mark.parametrize("kind", KINDS)
def test_transformer_gives_the_recorded_activations_and_maps(kind):
    loaded, recorded = golden(kind)
    values = {name: x for name, x in recorded.items() if name[:4] in ("tap/", "map/")}
    assert len(values) == 3 * 3 + 2
    assert_near(run(loaded, **inputs_of(recorded)), values)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_in_the_pipeline(kind):
    """Words, their states, zeros for a missing T5, and the pooled vectors."""
    loaded, recorded = golden(kind)
    backbone = loaded.backbone
    tokens = backbone.tokenize(recorded["texts"].tolist())
    assert tokens.shape == (2, 288 if kind == "sd3" else 32)
    found = jitted(backbone.encode_text)(loaded.frozen, tokens)
    values = {name: recorded[name] for name in ("states", "text_pooled")}
    assert_near({"states": found.states, "text_pooled": found.pooled}, values)
    # "a mug" is four of CLIP's pieces here and two of T5's; the other text is cut.
    words = [[2, 255] if kind == "sd3" else [0, 0], [4, 14]]
    np.testing.assert_array_equal(found.mask[:, :16].sum(1), words[1])
    np.testing.assert_array_equal(found.mask[:, 16:].sum(1), words[0])
    assert found.mask[0, 1] and not found.mask[0, 0]
    assert (kind == "sd3") == bool(jnp.abs(found.states[:, 16:]).max())


def test_autoencoder_gives_the_recorded_latents_and_pictures():
    loaded, recorded = golden("sd3")
    backbone, c = loaded.backbone, loaded.backbone.vae.config
    assert (c.scaling_factor, c.shift) == (1.5305, 0.0609)
    latents = jitted(backbone.encode_image)(loaded.frozen, recorded["images"])
    scaled = (recorded["codes"] - c.shift) * c.scaling_factor
    picture = jitted(backbone.decode)(loaded.frozen, jnp.asarray(scaled))
    expected = (recorded["mean"] - c.shift) * c.scaling_factor
    values = {"latents": expected, "picture": recorded["decoded"]}
    assert_near({"latents": latents, "picture": picture}, values)
    assert backbone.latent_shape(1024) == (128, 128, 16) and backbone.stride == 16


def test_the_network_is_told_the_share_of_noise():
    """Timestep 273 of the scheduler with a shift of 3; learned states have no words."""
    loaded, recorded = golden("sd3")
    backbone, taps = loaded.backbone, ("block.1.modulated",)
    latents, context = (jnp.asarray(recorded[k]) for k in ("latents", "context"))
    read = jitted(functools.partial(backbone.read, taps=taps))
    ours = read(loaded.frozen, latents, jnp.array(273), TextStates(context))
    network = functools.partial(backbone.transformer.apply, taps=taps)
    pooled = jnp.zeros((1, 10))
    weights = {"params": loaded.frozen["unet"]}
    theirs = jitted(network)(weights, latents, 531.00775, context, pooled)
    assert_near(ours.taps, theirs.taps)


def test_what_attention_layers_hand_out():
    """Shares of patches and of the text are 1 together, extra keys among them; both
    parts add up to what the layer adds; logits are those of the maps."""
    loaded, recorded = golden("sd35")
    names = ("block.0.self", "block.0.cross", "block.0.dual")
    assert names == loaded.backbone.attention_names[:3]
    assert loaded.backbone.attention_names[-2:] == ("block.2.self", "block.2.cross")
    block = loaded.frozen["unet"]["transformer_blocks_0"]
    silent = {**block, "ff": jax.tree.map(jnp.zeros_like, block["ff"])}
    frozen = {"unet": {**loaded.frozen["unet"], "transformer_blocks_0": silent}}
    text = TextStates(jnp.asarray(recorded["context"]), None, recorded["pooled"])
    extra = np.random.default_rng(0).normal(size=(2, 3, 16)).astype("f")
    rows = jnp.asarray(extra)
    kv = {names[0]: (rows[0, :1], rows[0, :1]), names[1]: (rows, rows)}
    read = functools.partial(
        loaded.backbone.read,
        taps=("patches", "block.0"),
        **dict.fromkeys(("maps", "logits", "queries", "outputs"), names),
    )
    found = jitted(read)(frozen, recorded["latents"], jnp.array([4, 800]), text, kv=kv)
    own, told, dual = (found.maps[name] for name in names)
    assert own.shape == (2, 2, 4, 6, 25) and told.shape == (2, 2, 4, 6, 10)
    np.testing.assert_allclose(own.sum(-1) + told.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(dual.sum(-1), 1, atol=1e-5)
    both = jnp.concatenate([found.logits[name] for name in names[:2]], -1)
    maps = jnp.concatenate([own, told], -1)
    np.testing.assert_allclose(jax.nn.softmax(both, -1), maps, atol=1e-5)
    logits = jnp.einsum("bhyxw,bkhw->bhyxk", found.queries[names[1]], as_heads(extra))
    np.testing.assert_allclose(logits / 8**0.5, both[..., -3:], atol=1e-4)
    total = found.taps["patches"] + sum(found.outputs.values())
    np.testing.assert_allclose(found.taps["block.0"], total, atol=1e-4)


def as_heads(keys):
    return keys.reshape(*keys.shape[:2], 2, 8)


def test_given_keys_shifts_and_residuals_change_what_follows():
    loaded, recorded = golden("sd3")
    backbone, context = loaded.backbone, jnp.asarray(recorded["context"])
    assert backbone.residual_names == ("patches", "block.0", "block.1", "block.2")
    read = jitted(functools.partial(backbone.read, taps=("block.0", "out")))
    given = loaded.frozen, recorded["latents"], 5, TextStates(context)
    rows, zero = jnp.ones((1, 16)), jnp.zeros((1, 16))
    residual = jnp.asarray(recorded["tap/patches"])
    nothing = {
        "kv": {"block.1.cross": (zero, zero)},
        "kv_shift": {"block.1.cross": (zero, zero)},
        "residuals": {"block.0": residual},
    }
    plain = read(*given, **nothing).taps
    for change in (
        {"kv": {"block.1.cross": (rows, 9 * rows)}},
        {"kv_shift": {"block.1.cross": (zero, rows)}},
        {"residuals": {"block.0": 2 * residual}},
    ):
        found = read(*given, **nothing | change).taps
        expected = plain["block.0"] + residual * ("residuals" in change)
        np.testing.assert_allclose(found["block.0"], expected, atol=1e-4)
        assert jnp.abs(found["out"] - plain["out"]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "total"),
    [({}, 2_028_328_000), (MEDIUM_35, 2_243_171_520), (LARGE_35, 8_056_627_520)],
    ids=["3 medium", "3.5 medium", "3.5 large"],
)
def test_full_size_parameters(change, total):
    """Without the table of positions, which is no parameter of diffusers'."""
    config = MMDiTConfig.from_json(MEDIUM | change)
    whole = transformer_shapes(config)
    table = whole["pos_embed"]["pos_embed"]["table"]
    assert table.shape == (1, config.pos_embed_max_size**2, config.width)
    assert count(whole) - table.size == total
    early = transformer_shapes(config, ("block.2.modulated",))
    blocks = [name for name in early if name.startswith("transformer_blocks_")]
    assert len(blocks) == 3 and "proj_out" not in early
    assert set(early["transformer_blocks_2"]) == {"norm1"}
    assert set(transformer_shapes(config, ("patches",))) == {"pos_embed"}


def test_full_size_autoencoder_and_text_encoders():
    vae = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
    vae |= {"latent_channels": 16, "shift_factor": 0.0609, "scaling_factor": 1.5305}
    vae |= {"use_quant_conv": False, "use_post_quant_conv": False}
    vae |= {"down_block_types": ["DownEncoderBlock2D"] * 4}
    vae |= {"up_block_types": ["UpDecoderBlock2D"] * 4}
    assert count(shapes(Autoencoder, AutoencoderConfig.from_json(vae))) == 83_819_683
    small = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    small |= {"num_attention_heads": 12, "num_hidden_layers": 12}
    large = {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1280}
    large |= {"num_attention_heads": 20, "num_hidden_layers": 32, "hidden_act": "gelu"}
    for config, total in ((small, 123_650_304), (large, 694_659_840)):
        config = ProjectedCLIPTextConfig.from_json(config)
        assert count(shapes(ProjectedCLIPText, config)) == total


def test_descriptors_and_the_check_of_a_model(tmp_path, monkeypatch):
    """The rest of the package takes it for what every backbone is."""
    monkeypatch.setattr(sanity, "_cache", lambda: tmp_path / "checked")
    whole = golden("sd35")[0].backbone
    taps = default_taps("category", whole.tap_names)
    assert taps == ("block.1.modulated",)
    loaded = load_frozen(GOLDEN / "sd35", taps, make_mesh(), "float32")
    assert set(loaded.frozen["unet"]["transformer_blocks_1"]) == {"norm1"}
    start = text_states(loaded, [""])[0]
    prompts = init_prompts(PromptConfig(border=1), 32, start)
    embedder = Embedder(loaded, prompts, Recipe(taps, copies=1), 32, batch_size=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = embedder.embed(pixels, "photo")
    assert found.shape == (2, 16) and np.abs(found[0] - found[1]).max() > 1e-3


def test_pictures_are_drawn():
    found = sampling.generate(golden("sd35")[0], ["a mug", "two chairs"], steps=2)
    assert found.shape == (2, 64, 64, 3) and found.std() > 1
    assert (found[0] != found[1]).any()


def test_bfloat16_follows_float32():
    loaded, recorded = golden("sd35")
    half = load_backbone(GOLDEN / "sd35", dtype=jnp.bfloat16)
    text = TextStates(jnp.asarray(recorded["context"]))
    latents, name = jnp.asarray(recorded["latents"]), "block.2.modulated"
    found, expected = (
        jitted(functools.partial(given.backbone.read, taps=(name,)))(
            given.frozen, latents.astype(given.backbone.dtype), 5, text
        ).taps[name]
        for given in (half, loaded)
    )
    assert found.dtype == jnp.bfloat16
    error = jnp.abs(found.astype(jnp.float32) - expected).max()
    assert error < 0.06 * jnp.abs(expected).max()


@pytest.fixture
def folder(tmp_path):
    """A copy of a recorded checkpoint, to be changed."""
    return pathlib.Path(shutil.copytree(GOLDEN / "sd3", tmp_path / "model"))


def test_shards_of_t5_and_the_same_model_without_it(folder):
    """Where it lies and how its files are cut counts in no fingerprint; T5 does."""
    t5 = folder / "text_encoder_3"
    tensors = load_file(t5 / "model.safetensors")
    (t5 / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model.fp16-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, t5 / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = t5 / "model.safetensors.index.fp16.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    loaded, whole = load_backbone(folder, parts=("text_encoder",)), golden("sd3")[0]
    assert set(loaded.frozen) == {"text_encoder", "text_encoder_2", "text_encoder_3"}
    jax.tree.map(
        np.testing.assert_array_equal,
        loaded.frozen["text_encoder_3"],
        whole.frozen["text_encoder_3"],
    )
    assert loaded.backbone.fingerprint == whole.backbone.fingerprint
    shutil.rmtree(t5)
    without = load_backbone(folder, parts=()).backbone
    assert without.text_encoder_3 is None
    assert without.fingerprint != whole.backbone.fingerprint
    assert hash(without) != hash(whole.backbone)


def test_files_of_a_repository_with_three_text_encoders():
    names = ("config.json", "diffusion_pytorch_model.safetensors")
    files = [f"{part}/{name}" for part in ("transformer", "vae") for name in names]
    for part in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        files += [f"{part}/config.json", f"{part}/model.fp16.safetensors"]
    files += ["model_index.json", "tokenizer_3/spiece.model"]
    whole = [*files, "text_encoder/model.safetensors", "sd3_medium.safetensors"]
    assert set(diffusers_files.needed_files(whole)) == set(files)
    with pytest.raises(ValueError, match=r"no text_encoder_3/\*.safetensors"):
        diffusers_files._choose("some/net", [f for f in files if "_3/model" not in f])


def test_pickles_are_refused_with_the_remedy(folder):
    weights = folder / "transformer" / WEIGHTS
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"transformer holds only pickles.*save_pre"):
        load_backbone(folder, parts=())


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (
            "transformer",
            {"qk_norm": "layer_norm"},
            "qk_norm='layer_norm' .* 'rms_norm'",
        ),
        ("transformer", {"out_channels": 8}, "out_channels=8 is not .*, only 16 is"),
        (
            "transformer",
            {"caption_projection_dim": 8},
            "projection_dim=8 .* only 16 is",
        ),
        (
            "transformer",
            {"dual_attention_layers": [0, 3]},
            "names 3, but .* are 0 to 2",
        ),
        ("transformer", {"sample_size": 20}, "sample_size=20 .* pos_embed_max_size=9"),
        ("transformer", {"sample_size": 7}, "sample_size=7 in patches of patch_size=2"),
        (
            "transformer",
            {"pooled_projection_dim": 9},
            "pooled texts have 10 .* takes 9",
        ),
        ("transformer", {"joint_attention_dim": 15}, "T5's states have 16 .* takes 15"),
        ("transformer", {"in_channels": 8, "out_channels": 8}, "latents have 16 .* 8"),
        ("transformer", {"num_layers": 60}, "3 tensors named .*attn.to_q.* with 60"),
        (
            "transformer",
            {"qk_norm": "rms_norm"},
            "12 missing: transformer_blocks.0.att",
        ),
        ("transformer", {"guidance_embeds": True}, "unknown key 'guidance_embeds'"),
        ("text_encoder", {"max_position_embeddings": 9}, "of 9 and of 16 tokens"),
        ("text_encoder_3", {"feed_forward_proj": "relu"}, "only T5 1.1's 'gated-gelu'"),
        ("vae", {"use_quant_conv": True}, "2 missing: quant_conv.bias"),
    ],
)
def test_configs_we_cannot_follow(folder, part, values, message):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ValueError, match=message) as error:
        load_backbone(folder, parts=())
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_what_this_family_cannot():
    loaded, recorded = golden("sd3")
    text = TextStates(jnp.asarray(recorded["context"]))
    with pytest.raises(ValueError, match=r"no keys of a text alone.*Ask `read` for"):
        loaded.backbone.keys(loaded.frozen, text, ("block.0.cross",))
    read = functools.partial(loaded.backbone.read, loaded.frozen)
    wrong = TextStates(text.states, None, jnp.zeros((2, 9)))
    for latents, said, given, message in (
        ((2, 8, 12, 16), text, {"maps": ("block.0.dual",)}, "unknown maps"),
        ((2, 7, 12, 16), text, {"taps": ("out",)}, "7 x 12.*multiples of 2"),
        ((2, 8, 20, 16), text, {"taps": ("out",)}, "8 x 20.*18 x 18.*smaller images"),
        ((2, 8, 12, 4), text, {"taps": ("out",)}, "4 channels.*takes 16 and 16"),
        ((2, 8, 12, 16), wrong, {"taps": ("out",)}, r"\(2, 9\); give \[1, 10\]"),
    ):
        with pytest.raises(ValueError, match=message):
            read(jnp.zeros(latents), 5, said, **given)


@functools.cache
def oracle():
    """The recorder as a module, or a skip without PyTorch."""
    for name in ("torch", "diffusers"):
        pytest.importorskip(name)
    path = ROOT.parent / "tools" / "make_sd3_golden.py"
    spec = importlib.util.spec_from_file_location("make_sd3_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_live_networks_of_another_shape(tmp_path):
    """Single patches, three heads, a second attention in the last block only."""
    make = oracle()
    other = {
        "num_attention_heads": 3,
        "caption_projection_dim": 24,
        "num_layers": 2,
        "patch_size": 1,
        "dual_attention_layers": (1,),
    }
    pipeline = make.small_pipeline("sd35", 1, **other)
    make.save(tmp_path, pipeline)
    loaded = load_backbone(tmp_path)
    inputs = make.transformer_inputs(pipeline.transformer, 5, 3, seed=2)
    theirs = make.record_transformer(pipeline.transformer, **inputs)
    assert_near(run(loaded, **inputs), theirs)
