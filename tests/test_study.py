"""Studies on a tiny backbone and polygons: every cell is what a run would report."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from retrieval_task import retrieval

from sbir_jax import features, train
from sbir_jax.config import Experiment, base
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import checkpoint
from sbir_jax.tasks.retrieval import descriptor_cache, evaluation, protocols
from sbir_jax.tasks.retrieval.setup import TripletConfig
from tools import study, study_frozen, study_pca, study_sweep, study_train
from tools.study import Options

TAPS = ("up.0.out", "up.1.out")


@pytest.fixture(scope="module")
def config(tiny_folder, shapes_root, tmp_path_factory):
    config = base("category")
    config.backbone = str(tiny_folder)
    config.val_classes = 2
    config.score.cutoffs = (2,)
    config.recipe.copies = 2
    config.recipe.taps = TAPS[:1]
    config.embed_batch_size = 8
    config.data = {
        "name": "folder",
        "root": str(shapes_root),
        "unseen": "gem,ring",
        "cache_dir": str(tmp_path_factory.mktemp("prepared")),
        "share": 1.0,
    }
    return config


@pytest.fixture(scope="module")
def bench(config, tmp_path_factory):
    setup = Experiment.from_config(config)
    return study_sweep.open_bench(setup, tmp_path_factory.mktemp("study"), "unseen")


@pytest.fixture
def light(monkeypatch):
    """No networks, so nothing to compile; a map still depends on all that it should."""

    def encode(backbone, params, prompts, images, modality, scale):
        small = images[:, ::4, ::4]
        return jnp.concatenate([small, small[..., :1]], axis=-1)

    def taps(backbone, params, latents, context, noise, recipe, timestep):
        mixed = latents[:, None] + timestep / 1000 * noise[None]
        mixed = mixed.reshape(-1, *latents.shape[1:])
        return {tap: jnp.tanh(mixed * len(tap)) for tap in recipe.taps}

    monkeypatch.setattr(features, "encode_prompted", encode)
    monkeypatch.setattr(features, "decoder_taps", taps)


@pytest.fixture
def no_work(monkeypatch):
    """Any computation on the backbone fails."""

    def never(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(study_sweep, "Program", never)
    monkeypatch.setattr(study_pca, "Program", never)


@pytest.mark.slow
def test_cells_are_what_an_embedder_with_the_recipe_gets(bench):
    recipe = features.Recipe(
        ("down.0.attn.0", "down.0.out"),
        timestep=400,
        copies=3,
        pooling="mean",
        grid=2,
        noise_seed=5,
    )
    fewer = dataclasses.replace(recipe, copies=1)
    _, cell = cells = study_sweep.sweep(bench, [fewer, recipe])
    model = Embedder(bench.loaded, bench.prompts, recipe, bench.size, 1.0, 8)
    found = descriptor_cache.embed(model, bench.dataset, bench.protocol)
    rows = evaluation.similarity(*(x.astype(np.float16) for x in found))
    expected, _ = evaluation.score(bench.protocol, rows)
    assert cell["metrics"] == pytest.approx(expected, abs=1e-6)
    assert [cell["recipe"]["copies"] for cell in cells] == [1, 3]


def test_finished_cells_are_read_and_only_new_ones_computed(bench, light, monkeypatch):
    recipe = features.Recipe(TAPS[:1], copies=1)
    first = study_sweep.sweep(bench, [recipe])
    asked, describe = [], study_sweep.Program.describe

    def count(self, latents, noise, timestep, recipes, bar):
        asked.append((timestep, recipes))
        return describe(self, latents, noise, timestep, recipes, bar)

    monkeypatch.setattr(study_sweep.Program, "describe", count)
    later, more = (
        dataclasses.replace(recipe, timestep=700),
        dataclasses.replace(recipe, copies=3),
    )
    found = study_sweep.sweep(bench, [recipe, later, more])
    assert found[:1] == first
    # For sketches and photos; what differs in copies only shares a pass.
    assert asked == [(700, (later,))] * 2 + [(273, (more,))] * 2
    assert len({json.dumps(cell["metrics"]) for cell in found}) > 1
    assert not list(bench.folder.rglob("*.part*"))


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "fingerprint"},
        {"backbone": "type"},
        {"prompts": None},
        {"visual_scale": 2.0},
        {"protocol": None},
    ],
)
def test_cells_of_another_setting_have_another_file(bench, change):
    (name,) = change

    def other(**parts):
        described = dataclasses.replace(bench.loaded.backbone, **parts)
        return dataclasses.replace(bench.loaded, backbone=described)

    if change == {"backbone": "type"}:
        unet = bench.loaded.backbone.unet.clone(dtype=jnp.bfloat16)
        name, value = "loaded", other(unet=unet)
    elif name == "backbone":
        name, value = "loaded", other(fingerprint="0" * 64)
    elif name == "prompts":
        value = jax.tree.map(lambda x: x + 1, bench.prompts)
    elif name == "protocol":
        value = protocols.subsample(bench.protocol, 5)
    else:
        value = change[name]
    other = dataclasses.replace(bench, **{name: value})
    recipe = dataclasses.asdict(features.Recipe(TAPS))
    assert other.path("cells", "json", **recipe) != bench.path(
        "cells", "json", **recipe
    )


@pytest.mark.slow
def test_layers_by_timesteps_as_a_user_starts_it(config, tmp_path, light, monkeypatch):
    options = Options(["0", "273"], ["up.[01].out"], classes="unseen", limit=6)
    drawn = []
    monkeypatch.setattr(
        study_frozen.study_pictures, "heat_map", lambda *args: drawn.append(args)
    )
    says = study.run("layers", config, tmp_path, options, "the command")
    path = tmp_path / "layers-folder-category-unseen.json"
    report = json.loads(path.read_text())
    asked = [
        (tuple(c["recipe"]["taps"]), c["recipe"]["timestep"]) for c in report["cells"]
    ]
    assert asked == [(l, t) for l in (TAPS[:1], TAPS[1:], TAPS) for t in (0, 273)]
    assert report["protocol"]["queries"] == report["protocol"]["gallery"] == 6
    assert report["command"] == "the command" and 0 < report["chance"] < 1
    ((_, _, names, timesteps, values, chance, paper),) = drawn
    assert (names[-1], 273) == paper and timesteps == [0, 273]
    assert chance == report["chance"]
    expected = [cell["metrics"]["mAP@all"] for cell in report["cells"]]
    np.testing.assert_array_equal(values.ravel(), expected)
    assert f"best {max(expected):.3f}" in says and f"{expected[-1]:.3f}" in says


@pytest.mark.slow
def test_copies_are_scored_under_every_noise_bank(config, tmp_path, light):
    options = Options(["1", "2"], seeds=["0", "3"])
    study.run("copies", config, tmp_path, options)
    report = json.loads((tmp_path / "copies-folder-category-val.json").read_text())
    recipes = [cell["recipe"] for cell in report["cells"]]
    asked = [(r["copies"], r["noise_seed"]) for r in recipes]
    assert asked == [(1, 0), (1, 3), (2, 0), (2, 3)]
    assert report["classes"] == "held-out seen classes"
    assert (tmp_path / "copies-folder-category-val.png").stat().st_size > 5_000


@pytest.mark.slow
def test_types_are_compared_on_the_same_noise(config, tmp_path, light):
    options = Options(seeds=["0", "3"], classes="unseen")
    says = study.run("dtype", config, tmp_path, options)
    report = json.loads((tmp_path / "dtype-folder-category-unseen.json").read_text())
    asked = [(c["dtype"], c["recipe"]["noise_seed"]) for c in report["cells"]]
    names = ("float32", "bfloat16")
    assert asked == [(name, seed) for name in names for seed in (0, 3)]
    # Each type has cells of its own, though without networks they say the same.
    assert len(list((tmp_path / "cells").iterdir())) == 4
    assert [c.get("dtype") for c in report["cells"]].count("bfloat16") == 2
    values = [cell["metrics"]["mAP@all"] for cell in report["cells"]]
    mean = f"{np.mean(values[:2]):.4f}"
    assert f"float32: {mean}, bfloat16: {mean}; at most 0.0000 apart" in says
    with pytest.raises(ValueError, match="'half' is not float32 or bfloat16"):
        study.run("dtype", config, tmp_path, Options(["half"]))


@pytest.mark.slow
def test_pca_is_drawn_once_and_read_again(config, tmp_path, light, monkeypatch):
    options = Options(["0", "500"], ["up.0.out", "mid.out"], limit=2)
    study.run("pca", config, tmp_path, options)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "pca").iterdir()}
    monkeypatch.setattr(study_pca, "Program", None)
    study.run("pca", config, tmp_path, options)
    assert kept == {path: path.stat().st_mtime_ns for path in kept} and len(kept) == 4
    report = json.loads((tmp_path / "pca-folder-category-val.json").read_text())
    for pair in report["cells"]:  # of one class, as the task asks
        assert pair["sketch"].split("/")[1] == pair["photo"].split("/")[1]
    assert {np.load(path).shape for path in kept} == {(2, 2, 8, 8, 3)}


def test_shared_colours_are_the_components_of_all_maps_together():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, 20, 20, 3)) * [9.0, 3.0, 1.0]
    axes = np.linalg.qr(rng.standard_normal((5, 3)))[0].T
    axes *= np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])[:, None]
    found = study_pca.shared_colours(scores @ axes + 7)
    for i in range(3):
        both = found[..., i].ravel().astype(float), scores[..., i].ravel()
        assert np.corrcoef(both)[0, 1] > 0.98
    assert found.dtype == np.uint8 and found.min() == 0 and found.max() == 255
    with pytest.raises(ValueError, match="2 channels"):
        study_pca.shared_colours(np.zeros((1, 4, 4, 2)))


def test_pairs_of_the_fine_grained_task_are_of_one_thing(bench):
    fine = protocols.make_protocol(bench.dataset, ("gem", "ring"), "fine_grained")
    pairs = study_pca.pick_pairs(dataclasses.replace(bench, protocol=fine), 2).protocol
    np.testing.assert_array_equal(pairs.query_instances, pairs.gallery_instances)
    assert len(np.unique(pairs.query_labels)) == 2


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("layer", Options(), "study 'layer'; there are layers, copies"),
        ("layers", Options(seeds=["1"]), "layers has no use for --seeds"),
        ("border", Options(limit=3), "border has no use for --limit"),
        ("layers", Options(["0", "1000"]), "'1000' is not a timestep, 0 to 999"),
        ("layers", Options(taps=["up.9.*"]), "no layer is 'up.9.\\*'; there are conv"),
        ("copies", Options(["0"]), "'0' is not a number of copies"),
        ("pooling", Options(["max:0"]), "'max:0' is not max, mean"),
        ("pooling", Options(["median"]), "'median' is not max, mean"),
        ("copies", Options(seeds=["-1"]), "'-1' is not a seed"),
        ("border", Options(["16"]), "'16' is not a width in pixels, 1 to 15"),
        ("parts", Options(["words"]), "'words' is not one of both, frame, text, none"),
        ("share", Options(["0"]), "'0' is not a share"),
        ("layers", Options(run="absent"), "absent is not a run folder"),
        ("layers", Options(limit=-1), "limit is -1"),
    ],
)
def test_impossible_studies_are_refused(
    config, tmp_path, no_work, name, options, words
):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        study.run(name, config, tmp_path, options)


def test_no_class_to_choose_by_says_what_to_do(config, tmp_path):
    setup = dataclasses.replace(Experiment.from_config(config), val_classes=0)
    with pytest.raises(ValueError, match=r"val_classes=4.*--classes=unseen"):
        study_sweep.open_bench(setup, tmp_path, "val")


def test_prompts_that_saw_the_scored_classes_are_refused(bench, config, tmp_path):
    setup = Experiment.from_config(config)
    dataset = bench.dataset
    owner = {"data": dataset.fingerprint, "unseen": list(dataset.unseen)}
    checkpoint.write_json(tmp_path / "owner.json", owner)
    theirs = {"val_classes": 2, "train": {"seed": 0}}
    checkpoint.write_json(tmp_path / "config.json", theirs)
    study_sweep._check_run(tmp_path, setup, dataset)
    for key, value in (("val_classes", 1), ("train", {"seed": 1})):
        checkpoint.write_json(tmp_path / "config.json", theirs | {key: value})
        with pytest.raises(ValueError, match="may have been trained on classes"):
            study_sweep._check_run(tmp_path, setup, dataset)


@pytest.mark.slow
def test_trained_cells_are_runs_of_their_own(config, tmp_path, monkeypatch):
    ran = {}

    def run(setup, workdir):
        ran[workdir.name] = (setup.train.parts, setup.train.seed)
        learned = 0.5 + 0.1 * len(setup.train.parts) + 0.01 * setup.train.seed
        names = {"frozen": 0.3, "learned": learned, "chance": 0.1}
        results = [{"name": n, "metrics": {"mAP@all": v}} for n, v in names.items()]
        return {"primary": "mAP@all", "results": results}

    def opened(setup, workdir):
        return types.SimpleNamespace(go=lambda: run(setup, workdir))

    monkeypatch.setattr(study_train, "experiment", types.SimpleNamespace(open=opened))
    options = Options(["both", "text", "none"], seeds=["0", "1"], classes="unseen")
    says = study.run("parts", config, tmp_path, options)
    assert ran == {
        "parts-both-0": (("visual", "text"), 0),
        "parts-both-1": (("visual", "text"), 1),
        "parts-text-0": (("text",), 0),
        "parts-text-1": (("text",), 1),
    }
    assert "both: 0.705, text: 0.605, none: 0.300" in says
    report = json.loads((tmp_path / "parts-folder-category-unseen.json").read_text())
    assert [cell["cell"] for cell in report["cells"]][-1] == 0.3
    assert len(report["cells"]) == 6


def test_a_cell_changes_one_key_and_the_seed(config):
    for name, value, key in (
        ("border", 3, "prompt.border"),
        ("share", 0.5, "data.share"),
    ):
        found = study_train.cell_config(config, name, value, 7)
        changed = Experiment.from_config(found).to_json()
        plain = Experiment.from_config(config).to_json()
        part, field = key.split(".")
        assert changed[part][field] == value and changed["train"]["seed"] == 7
        plain[part][field], plain["train"]["seed"] = value, 7
        assert changed == plain
    assert study_train.widths(512) == list(study_train.WIDTHS)
    assert study_train.widths(64) == [1, 2, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("part, other", [("visual", "text"), ("text", "visual")])
def test_only_the_parts_named_are_trained(bench, tmp_path, monkeypatch, part, other):
    """With weight decay too; the networks are left out."""

    def encode(b, p, images):
        small = images[:, ::4, ::4]
        return jnp.concatenate([small, small[..., :1]], axis=-1)

    def describe(b, p, latents, context, noise, recipe):
        mixed = latents.mean((1, 2)) @ context[:4, :4] + context[4:5, :4]
        return features.normalise(mixed)

    monkeypatch.setattr(type(bench.loaded.backbone), "encode_image", encode)
    monkeypatch.setattr(features, "describe_latents", describe)
    prompts = jax.tree.map(lambda x: x + 1.0, bench.prompts)
    setting = {"steps": 2, "batch_size": 8, "weight_decay": 0.1}
    task = retrieval(
        bench.loaded,
        bench.dataset,
        tmp_path,
        TripletConfig(**setting, parts=(part,)),
        features.Recipe(TAPS),
        prompts=prompts,
    )
    learned, _ = train.train(task, tmp_path)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), prompts, learned)
    assert all(jax.tree.leaves(getattr(same, other)))
    assert not any(jax.tree.leaves(getattr(same, part)))
    with pytest.raises(ValueError, match=r"train\.parts"):
        TripletConfig(parts=("words",))
