"""Loading and writing checkpoints: what is read, where it goes, what is refused."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from sbir_jax.backbones import (
    diffusers_files,
    parameters,
    stable_diffusion_files,
)
from sbir_jax.backbones.loading import load_backbone, random_backbone
from sbir_jax.backbones.stable_diffusion_files import save_diffusers
from sbir_jax.runtime import tensor_files

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
NAME = "conv_in.weight"


@pytest.fixture(scope="module")
def whole():
    """All of the recorded checkpoint of the kind of Stable Diffusion 1.x."""
    return load_backbone(GOLDEN / "sd1")


@pytest.fixture
def folder(tmp_path):
    """A copy of that checkpoint, to be damaged."""
    return pathlib.Path(shutil.copytree(GOLDEN / "sd1", tmp_path / "model"))


def paths(tree):
    """Parameters by path."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(e.key for e in path): leaf for path, leaf in pairs}


def assert_same(ours, theirs):
    ours, theirs = paths(ours), paths(theirs)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(
            np.asarray(ours[name]), np.asarray(value), err_msg=name
        )


def edit_tensors(path, change):
    """Rewrite a safetensors file after `change(tensors)`."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def edit_config(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def configs_of(folder):
    names = {part: "config.json" for part in ("unet", "vae", "text_encoder")}
    names["scheduler"] = "scheduler_config.json"
    return {
        part: json.loads((folder / part / name).read_text())
        for part, name in names.items()
    }


def shard(folder):
    """Split the UNet's file in three, with an index, as large checkpoints are."""
    tensors = load_file(folder / UNET)
    names = sorted(tensors)
    where = {}
    for i in range(3):
        file = f"diffusion_pytorch_model-0000{i + 1}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names[i::3]}, folder / "unet" / file)
        where |= dict.fromkeys(names[i::3], file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index))
    (folder / UNET).unlink()


def test_what_a_backbone_says_of_itself(whole):
    said = whole.backbone
    assert said.image_size == 64 and said.vae_factor == 8 and said.stride == 64
    assert said.context_dim == 16 and said.scaling_factor == 0.18215
    assert said.schedule.prediction_type == "epsilon"
    assert said.source == str(GOLDEN / "sd1") and len(said.fingerprint) == 64
    assert hash(said) == hash(load_backbone(GOLDEN / "sd1", parts=()).backbone)
    other = load_backbone(GOLDEN / "sd2", parts=())
    assert (
        other.backbone.schedule.prediction_type == "v_prediction" and other.frozen == {}
    )
    assert other.backbone.fingerprint != whole.backbone.fingerprint


def test_parameters_are_the_files_tensors_turned(whole):
    unet, text = load_file(GOLDEN / "sd1" / UNET), load_file(GOLDEN / "sd1" / TEXT)
    vae = load_file(GOLDEN / "sd1/vae/diffusion_pytorch_model.safetensors")
    ours = paths(whole.frozen)
    attention = "transformer_blocks"
    for name, expected in {
        "unet/conv_in/kernel": unet["conv_in.weight"].transpose(2, 3, 1, 0),
        "unet/time_embedding/linear_1/kernel": unet["time_embedding.linear_1.weight"].T,
        f"unet/down_blocks_1/attentions_0/{attention}_0/ff/net_2/bias": unet[
            f"down_blocks.1.attentions.0.{attention}.0.ff.net.2.bias"
        ],
        "unet/conv_norm_out/scale": unet["conv_norm_out.weight"],
        "vae/decoder/mid_block/attentions_0/to_out_0/kernel": vae[
            "decoder.mid_block.attentions.0.proj_attn.weight"
        ].T,
        "text_encoder/embeddings/token_embedding/embedding": text[
            "text_model.embeddings.token_embedding.weight"
        ],
    }.items():
        assert ours[name].dtype == jnp.float32
        np.testing.assert_array_equal(ours[name], expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(whole, dtype):
    half = load_backbone(GOLDEN / "sd1", dtype=dtype)
    assert (
        half.backbone.unet.dtype
        == half.backbone.vae.dtype
        == half.backbone.text_encoder.dtype
        == dtype
    )
    for name, value in paths(half.frozen).items():
        expected = np.asarray(paths(whole.frozen)[name]).astype(dtype)
        np.testing.assert_array_equal(np.asarray(value), expected, strict=True)
    assert half.backbone.fingerprint == whole.backbone.fingerprint


def test_only_what_is_asked_for_is_read(whole, monkeypatch):
    read = []
    original = diffusers_files.TensorFolder.read
    monkeypatch.setattr(diffusers_files.TensorFolder, "digest", lambda self: "")

    def spy(self, name):
        read.append((self.path.parent.name, name))
        return original(self, name)

    monkeypatch.setattr(diffusers_files.TensorFolder, "read", spy)
    part = load_backbone(
        GOLDEN / "sd1", taps=("up.1.out",), parts=("unet", "vae_encoder")
    )
    assert set(part.frozen) == {"unet", "vae"}
    assert set(part.frozen["vae"]) == {"encoder", "quant_conv"}
    names = {name for folder, name in read if folder == "unet"}
    assert "up_blocks.1.upsamplers.0.conv.weight" in names
    assert not any(
        n.startswith(("up_blocks.2", "up_blocks.3", "conv_o")) for n in names
    )
    assert len(read) == len(jax.tree.leaves(part.frozen)) == len(set(read))
    full = paths(whole.frozen)
    assert_same(paths(part.frozen), {name: full[name] for name in paths(part.frozen)})
    decoder = load_backbone(GOLDEN / "sd1", parts=("vae_decoder",))
    assert set(decoder.frozen["vae"]) == {"decoder", "post_quant_conv"}


def test_kernels_are_turned_some_outputs_at_a_time(whole, monkeypatch):
    monkeypatch.setattr(parameters, "OUTPUTS", 3)
    assert_same(load_backbone(GOLDEN / "sd1").frozen, whole.frozen)


def test_a_map_is_loaded_as_far_as_it_needs():
    part = load_backbone(
        GOLDEN / "sd1", taps=(), maps=("mid.attn.0.cross",), parts=("unet",)
    )
    assert set(part.frozen["unet"]["mid_block"]) == {"resnets_0", "attentions_0"}


def test_shards_are_one_checkpoint(whole, folder):
    shard(folder)
    again = load_backbone(folder)
    assert_same(again.frozen, whole.frozen)
    assert again.backbone.fingerprint == whole.backbone.fingerprint


def test_the_half_precision_variant_is_preferred(whole, folder):
    """Both there: the smaller one, which here has been given other values."""
    small = folder / UNET.replace(".safetensors", ".fp16.safetensors")
    shutil.copy(folder / UNET, small)
    edit_tensors(small, lambda t: t.update({"conv_in.bias": t["conv_in.bias"] * 0}))
    bias = load_backbone(folder, parts=("unet",)).frozen["unet"]["conv_in"]["bias"]
    assert (bias == 0).all()


def test_fingerprint_is_of_the_content(whole, folder):
    """Not of place, bookkeeping or what was loaded; but of every value and key."""

    def fingerprint(**kwargs):
        return load_backbone(folder, **kwargs).backbone.fingerprint

    edit_config(folder / "unet/config.json", _diffusers_version="9", _name="elsewhere")
    assert fingerprint(parts=()) == whole.backbone.fingerprint
    assert fingerprint(taps=("conv_in",), parts=("unet",)) == whole.backbone.fingerprint
    edit_config(folder / "unet/config.json", norm_eps=1e-4)
    changed = fingerprint(parts=())
    assert changed != whole.backbone.fingerprint
    value = load_file(folder / TEXT)["text_model.final_layer_norm.bias"]
    value[0] += 1
    new = {"text_model.final_layer_norm.bias": value}
    edit_tensors(folder / TEXT, lambda tensors: tensors.update(new))
    assert fingerprint(parts=()) not in (changed, whole.backbone.fingerprint)


def test_fingerprint_stays_what_it_was(whole):
    """Indexes and prompts are kept with it, and refused where it is another."""
    assert whole.backbone.fingerprint.startswith("2a402b61303c663c")


def test_placement(whole):
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(None, None, None, "model"))

    def rule(path, shape):
        assert paths(whole.frozen)[path].shape == shape
        return split if path == "unet/mid_block/resnets_0/conv1/kernel" else everywhere

    one = load_backbone(GOLDEN / "sd1", sharding=everywhere, parts=("text_encoder",))
    assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(one.frozen))
    ruled = load_backbone(GOLDEN / "sd1", sharding=rule)
    for path, leaf in paths(ruled.frozen).items():
        wanted = (
            split if path == "unet/mid_block/resnets_0/conv1/kernel" else everywhere
        )
        assert leaf.sharding == wanted, path
    assert_same(ruled.frozen, whole.frozen)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_written_and_read_again(whole, tmp_path, dtype):
    configs = configs_of(GOLDEN / "sd1")
    save_diffusers(tmp_path / "new", configs, whole.frozen, dtype)
    again = load_backbone(tmp_path / "new")
    rounded = {k: np.asarray(v).astype(dtype) for k, v in paths(whole.frozen).items()}
    assert_same(again.frozen, {k: v.astype(np.float32) for k, v in rounded.items()})
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    published = load_file(tmp_path / "new" / UNET)
    assert {k: v.shape for k, v in published.items()} == {
        k: v.shape for k, v in load_file(GOLDEN / "sd1" / UNET).items()
    }
    assert {value.dtype for value in published.values()} == {np.dtype(dtype)}
    text = json.loads((tmp_path / "new/text_encoder/config.json").read_text())
    assert text["dtype"] == np.dtype(dtype).name and "torch_dtype" not in text
    index = json.loads((tmp_path / "new/model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]


def test_a_failed_write_leaves_what_was_there(whole, tmp_path, monkeypatch):
    configs = configs_of(GOLDEN / "sd1")
    save_diffusers(tmp_path / "new", configs, whole.frozen)
    before = load_backbone(tmp_path / "new").backbone.fingerprint

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_diffusers(tmp_path / "new", configs, whole.frozen, jnp.float16)
    assert load_backbone(tmp_path / "new").backbone.fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_parameters_that_do_not_fit_are_not_written(whole, tmp_path):
    configs = configs_of(GOLDEN / "sd1")
    part = {**whole.frozen, "vae": {"encoder": whole.frozen["vae"]["encoder"]}}
    with pytest.raises(ValueError, match="vae parameters do not fit the vae config"):
        save_diffusers(tmp_path / "new", configs, part)
    assert not list(tmp_path.iterdir())


def test_random_backbone_has_the_same_shape_and_other_values(whole):
    a, b = random_backbone(whole, 0), random_backbone(whole, 1)
    names = paths(whole.frozen)
    for name, leaf in paths(a.frozen).items():
        assert leaf.shape == names[name].shape and leaf.dtype == names[name].dtype
        assert leaf.sharding == names[name].sharding
    kernel = "unet/mid_block/resnets_0/conv1/kernel"
    drawn, other = paths(a.frozen)[kernel], paths(b.frozen)[kernel]
    assert (drawn != other).any() and (drawn != names[kernel]).any()
    twin = paths(a.frozen)["unet/mid_block/resnets_1/conv1/kernel"]
    assert (drawn != twin).any()
    # Kernels keep the size of what passes through them.
    assert abs(float(drawn.std()) * (9 * 16) ** 0.5 - 1) < 0.1
    assert (
        len(
            {a.backbone.fingerprint, b.backbone.fingerprint, whole.backbone.fingerprint}
        )
        == 3
    )
    # The weights of a layer do not depend on which others were loaded.
    part = load_backbone(
        GOLDEN / "sd1", taps=("mid.out",), parts=("unet",), dtype=jnp.bfloat16
    )
    same = paths(random_backbone(part, 0).frozen)[kernel]
    np.testing.assert_array_equal(same, drawn.astype(jnp.bfloat16))


def test_init_params_are_all_a_network_has(whole):
    fresh = stable_diffusion_files.init_params(whole.backbone.vae, jax.random.key(3))
    assert paths(fresh).keys() == paths(whole.frozen["vae"]).keys()
    again = stable_diffusion_files.init_params(whole.backbone.vae, jax.random.key(3))
    other = stable_diffusion_files.init_params(whole.backbone.vae, jax.random.key(4))
    assert_same(fresh, again)
    assert (
        paths(fresh)["quant_conv/kernel"] != paths(other)["quant_conv/kernel"]
    ).any()


def test_tokenizer_is_read_from_the_folder(folder):
    backbone = load_backbone(folder, parts=()).backbone
    with pytest.raises(FileNotFoundError, match="tokenizer: this checkpoint has no"):
        _ = backbone.tokenizer
    (folder / "tokenizer").mkdir()
    vocabulary = ["a", "b", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    content = json.dumps({word: i for i, word in enumerate(vocabulary)})
    (folder / "tokenizer" / "vocab.json").write_text(content)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert backbone.tokenizer("a b")["input_ids"] == [4, 2, 3, 5]
    assert backbone.tokenizer is backbone.tokenizer


def swap_shape(tensors):
    tensors[NAME] = tensors[NAME][:, :, :1]


def drop_many(tensors):
    for name in [n for n in tensors if n.startswith("up_blocks.3")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), r"1 missing: conv_in\.weight"),
        (lambda t: t.update({"lora.up": t[NAME]}), r"1 not expected: lora\.up"),
        (swap_shape, r"conv_in\.weight \(8, 4, 1, 3\), not \(8, 4, 3, 3\)"),
        (drop_many, r"114 missing: (up_blocks\.3\S+ ){10}and 104 more"),
    ],
)
def test_tensors_that_do_not_fit_the_config(folder, change, message):
    """Also where the part that is damaged would not have been loaded."""
    edit_tensors(folder / UNET, change)
    with pytest.raises(ValueError, match=f"(?s){UNET} does not hold.*{message}"):
        load_backbone(folder, taps=("mid.out",), parts=("unet",))


def test_all_problems_are_told_at_once(folder):
    def change(tensors):
        tensors["extra"] = tensors.pop(NAME)
        tensors["conv_out.bias"] = tensors["conv_out.bias"][:1]

    edit_tensors(folder / UNET, change)
    message = r"(?s)1 missing: conv_in.*1 not expected: extra.*1 of another shape: conv"
    with pytest.raises(ValueError, match=message):
        load_backbone(folder)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet", {"cross_attention_dim": 32}, "16 channels, but the UNet takes 32"),
        ("unet", {"in_channels": 9}, "4 channels, but the UNet takes 9; inpainting"),
        ("unet", {"up_block_types": ["UpBlock3D"] * 4}, "unknown block 'UpBlock3D'"),
    ],
)
def test_configs_that_do_not_fit(folder, file, change, message):
    edit_config(folder / file / "config.json", **change)
    with pytest.raises(ValueError, match=message):
        load_backbone(folder)


def test_wrong_arguments(folder):
    with pytest.raises(ValueError, match=r"unknown parts \['vae'\].*'vae_encoder'"):
        load_backbone(folder, parts=("unet", "vae"))
    with pytest.raises(ValueError, match=r"unknown taps \['up.9.out'\]"):
        load_backbone(folder, taps=("up.9.out",), parts=("unet",))
