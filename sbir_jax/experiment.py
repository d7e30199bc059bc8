"""One run, from a config to a report: train or resume, embed, score, show.

Running the same config into the same folder again goes on where it stopped, and
re-scores a finished run from its cached descriptors.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import logging
from clu import parameter_overview

from sbir_jax import data, features
from sbir_jax.adapters.prompts import init_prompts
from sbir_jax.backbones import loading
from sbir_jax.backbones.frozen import load_frozen, text_states
from sbir_jax.config import Experiment
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.metrics import ranking
from sbir_jax.report import literature, writing
from sbir_jax.runtime import checkpoint, metric_writer, multiprocess, sharding
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.tasks.retrieval import descriptor_cache, evaluation
from sbir_jax.train import train

SHEET = 24  # queries shown in the report
SHEET_PIXELS = 128
SHOWN = 10  # photos a query
VAL_LIMIT = 200  # sketches, and photos, of held-out seen classes scored for the curve


def run(setup: Experiment, workdir: pathlib.Path, command: str = "") -> dict:
    """Does all of it and returns what it wrote to `report.json`.

    Args:
      command: what the user typed, for the report.
    Raises: ValueError for settings that cannot work, saying what to change;
      FileNotFoundError for data or weights that are not there, saying where to get
      them.
    """
    begin = time.perf_counter()
    with multiprocess.first_goes_ahead():
        dataset = data.load(**setup.data)
    dataset = dataset.hold_out(setup.val_classes, setup.train.seed)
    local = sharding.make_mesh(setup.model_shards, jax.local_devices())
    dtype = setup.dtype or _dtype_of(workdir)
    where, taps = setup.backbone, setup.recipe.taps
    loaded = load_frozen(where, taps, local, dtype, setup.encoder)
    if setup.random_weights:
        loaded = loading.random_backbone(loaded, seed=setup.train.seed)
    backbone = loaded.backbone
    size = setup.image_size or backbone.image_size
    dtype = backbone.dtype.name
    setup = dataclasses.replace(setup, image_size=size, dtype=dtype)
    resolved = setup.to_json()
    workdir.mkdir(parents=True, exist_ok=True)
    # Where the data and the backbone lie may change; what they are may not.
    moving = ("data", "backbone", "encoder", "score")
    moving += ("embed_batch_size", "triplets_at_once", "model_shards")
    owner = {key: value for key, value in resolved.items() if key not in moving}
    owner |= {"backbone": backbone.fingerprint, "data": dataset.fingerprint}
    owner |= {"unseen": list(dataset.unseen)}
    checkpoint.claim(workdir, owner)
    checkpoint.write_json(workdir / "config.json", resolved)

    states = text_states(loaded, [setup.prompt.text])[0]
    latent = backbone.latent_shape(size)
    prompts = init_prompts(setup.prompt, size, states, latent)
    logging.info("prompts:\n%s", parameter_overview.get_parameter_overview(prompts))

    def embedder(recipe: Recipe) -> Embedder:
        scale, batch = setup.prompt.visual_scale, setup.embed_batch_size
        return Embedder(loaded, prompts, recipe, size, scale, batch, local)

    ready, waiting = time.perf_counter(), Waiting()
    # One copy of the noise: the curve shows the trend, the report the figure.
    quick = embedder(dataclasses.replace(setup.recipe, copies=1))
    validate = validator(quick, dataset, setup.task)
    learned, kept_step = train(
        loaded,
        dataset,
        prompts,
        task=setup.task,
        recipe=setup.recipe,
        config=setup.train,
        image_size=size,
        visual_scale=setup.prompt.visual_scale,
        workdir=workdir,
        score=validate,
        mesh=sharding.make_mesh(setup.model_shards),
        at_once=setup.triplets_at_once,
        waiting=waiting,
    )
    trained = time.perf_counter()

    score, out = setup.score, workdir / setup.score.folder
    scored_set, unseen = descriptor_cache.scored_on(score, dataset, setup.task)
    protocol = evaluation.make_protocol(
        scored_set, unseen, setup.task, score.cutoffs, score.generalised
    )
    beside = descriptor_cache.words_beside(score, scored_set, protocol)
    results, rankings, per_class = [], {}, {}
    frozen = embedder(setup.recipe)
    models = {"frozen": frozen, "learned": frozen.with_prompts(learned)}
    for name, model in models.items():
        queries, gallery = descriptor_cache.cached_embed(
            model, scored_set, protocol, out / "features", name, beside
        )
        rankings[name] = evaluation.similarity(queries, gallery)
        found, classes = evaluation.score(protocol, rankings[name])
        results.append({"name": name, "metrics": found})
        per_class[name] = {scored_set.classes[i]: v for i, v in classes.items()}
    results.append({"name": "chance", "metrics": evaluation.chance(protocol)})
    scored = time.perf_counter()

    kept = f"The prompts are those of step {kept_step} of {setup.train.steps}"
    if validate:
        kept += f", best in {protocol.primary} on held-out seen classes"
    summary = {
        "benchmark": scored_set.name,
        "split": f"{len(unseen)} unseen of {len(scored_set.classes)} classes",
        "trained_on": dataset.name,
        "protocol": {
            **protocol.summary(),
            "rule": evaluation.GENERALISED[score.generalised],
            "words": f"{score.words} as {score.words_as}, share {score.text_share:g}"
            if beside
            else "none",
        },
        "primary": protocol.primary,
        "results": results,
        "definitions": {
            **{name: ranking.definition(name) for name in results[0]["metrics"]},
            "where": ranking.NOTATION,
        },
        "per_class": per_class,
        "kept_step": kept_step,
        "timing": {
            "load_seconds": round(ready - begin, 2),
            "train_seconds": round(trained - ready, 2),
            "embed_and_score_seconds": round(scored - trained, 2),
            "total_seconds": round(scored - begin, 2),
            # Of the time in the loop, how much it waited for images.
            "train_waiting_share": round(waiting.share, 4),
            "embed_waiting_share": round(frozen.waiting.share, 4),
        },
        "fingerprint": models["learned"].fingerprint,
        "hardware": f"{jax.devices()[0].device_kind} x{jax.device_count()}",
        "command": command or None,
        "page": str(out / "report.html"),
        "skipped": len(scored_set.skipped),
        "config": resolved,
        "notes": [*scored_set.notes, kept],
    }
    if multiprocess.is_first():
        shown = sheet(scored_set, protocol, rankings)
        writing.write_report(out, summary, shown, metric_writer.read(workdir))
        table = literature.table(summary).encode()
        writing.replace_together(out, {"literature.md": table})
    multiprocess.barrier("report")
    return summary


def _dtype_of(workdir: pathlib.Path) -> str:
    """What the run in a folder computes in; "" where there is none yet."""
    path = workdir / "config.json"
    if not path.exists():
        return ""
    return json.loads(path.read_text()).get("dtype", "float32")


def validator(
    model: Embedder, dataset: data.Dataset, task: features.Task
) -> Callable[[dict], dict[str, float]] | None:
    """Scores prompts on the held-out seen classes; None where there are none."""
    if not dataset.val:
        return None
    protocol = evaluation.subsample(
        evaluation.make_protocol(dataset, dataset.val, task), VAL_LIMIT
    )

    def validate(prompts: dict) -> dict[str, float]:
        found = descriptor_cache.embed(model.with_prompts(prompts), dataset, protocol)
        figures, _ = evaluation.score(protocol, evaluation.similarity(*found))
        return {protocol.primary: figures[protocol.primary]}

    return validate


def sheet(
    dataset: data.Dataset,
    protocol: evaluation.Protocol,
    rankings: dict[str, evaluation.ScoreRows],
) -> list[writing.Ranking]:
    """Queries for the report, as many of each class as fit, with their first photos."""
    order = np.lexsort((np.arange(len(protocol.queries)), protocol.query_labels))
    spread = np.linspace(0, len(order) - 1, min(SHEET, len(order)))
    picks = [int(query) for query in order[spread.astype(int)]]
    queries = dataset.sketches.pixels(protocol.queries[picks], SHEET_PIXELS)
    tops = {
        name: evaluation.top(protocol, score_rows, picks, SHOWN)
        for name, score_rows in rankings.items()
    }
    shown = []
    for i, (query, image) in enumerate(zip(picks, queries, strict=True)):
        right = protocol.right(slice(query, query + 1))[0]
        hits = {}
        for name, score_rows in rankings.items():
            top = tops[name][i]
            scores = score_rows(slice(query, query + 1))[0, top]
            photos = dataset.photos.pixels(protocol.gallery[top], SHEET_PIXELS)
            hits[name] = [
                writing.Hit(
                    photo,
                    dataset.classes[protocol.gallery_labels[position]],
                    bool(right[position]),
                    float(score),
                )
                for photo, position, score in zip(photos, top, scores, strict=True)
            ]
        label = dataset.classes[protocol.query_labels[query]]
        shown.append(writing.Ranking(image, label, hits))
    return shown
