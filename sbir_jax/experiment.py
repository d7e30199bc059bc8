"""One run, from a config to a report: train or resume, embed, score, show.

Running the same config into the same folder again goes on where it stopped, and
re-scores a finished run from its cached descriptors.
"""

import dataclasses
import hashlib
import json
import pathlib
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from clu import parameter_overview

from sbir_jax import checkpoint, data, evaluate, metrics, report, weights, writer
from sbir_jax.config import Experiment
from sbir_jax.data.tree import normal_name
from sbir_jax.embedder import PARTS, Embedder, text_states
from sbir_jax.features import Recipe
from sbir_jax.prompts import init_prompts
from sbir_jax.train import train

SHEET = 24  # queries shown in the report
SHEET_PIXELS = 128
SHOWN = 10  # photos a query
# Settings that a finished run can be scored again with.
SCORING = ("cutoffs", "generalised", "score_data")
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
    dataset = data.load(**setup.data).hold_out(setup.val_classes, setup.train.seed)
    backbone = weights.load_backbone(
        setup.backbone, taps=setup.recipe.taps, parts=PARTS
    )
    if setup.random_weights:
        backbone = weights.random_backbone(backbone, seed=setup.train.seed)
    size = setup.image_size or backbone.image_size
    setup = dataclasses.replace(setup, image_size=size)
    resolved = setup.to_json()
    workdir.mkdir(parents=True, exist_ok=True)
    # Where the data and the backbone lie may change; what they are may not.
    moving = ("data", "backbone", "embed_batch_size", *SCORING)
    owner = {key: value for key, value in resolved.items() if key not in moving}
    owner |= {"backbone": backbone.fingerprint, "data": dataset.fingerprint}
    owner |= {"unseen": list(dataset.unseen)}
    checkpoint.claim(workdir, owner)
    checkpoint.write_json(workdir / "config.json", resolved)

    prompts = init_prompts(
        setup.prompt, size, text_states(backbone, [setup.prompt.text])[0]
    )
    logging.info("prompts:\n%s", parameter_overview.get_parameter_overview(prompts))

    def embedder(recipe: Recipe) -> Embedder:
        scale, batch = setup.prompt.visual_scale, setup.embed_batch_size
        return Embedder(backbone, prompts, recipe, size, scale, batch)

    loaded = time.perf_counter()
    # One copy of the noise: the curve shows the trend, the report the figure.
    quick = embedder(dataclasses.replace(setup.recipe, copies=1))
    validation = None
    if dataset.val:
        validation = evaluate.subsample(
            evaluate.make_protocol(dataset, dataset.val, setup.task), VAL_LIMIT
        )

    def validate(prompts: dict) -> dict[str, float]:
        if validation is None:
            return {}
        found = embed(quick.with_prompts(prompts), dataset, validation)
        figures, _ = evaluate.score(validation, evaluate.similarity(*found))
        return {validation.primary: figures[validation.primary]}

    learned = train(
        backbone,
        dataset,
        prompts,
        task=setup.task,
        recipe=setup.recipe,
        config=setup.train,
        image_size=size,
        visual_scale=setup.prompt.visual_scale,
        workdir=workdir,
        score=validate,
    )
    trained = time.perf_counter()

    scored_set, unseen = scored_on(setup, dataset)
    # The run's own folder is for its own protocol.
    aside = "-".join(filter(None, (setup.score_data["name"], setup.generalised)))
    out = workdir / "scores" / aside if aside else workdir
    protocol = evaluate.make_protocol(
        scored_set, unseen, setup.task, setup.cutoffs, setup.generalised
    )
    results, rankings, per_class = [], {}, {}
    frozen = embedder(setup.recipe)
    models = {"frozen": frozen, "learned": frozen.with_prompts(learned)}
    for name, model in models.items():
        queries, gallery = cached_embed(
            model, scored_set, protocol, out / "features", name
        )
        rankings[name] = evaluate.similarity(queries, gallery)
        found, classes = evaluate.score(protocol, rankings[name])
        results.append({"name": name, "metrics": found})
        per_class[name] = {scored_set.classes[i]: v for i, v in classes.items()}
    results.append({"name": "chance", "metrics": evaluate.chance(protocol)})
    scored = time.perf_counter()

    summary = {
        "benchmark": scored_set.name,
        "split": f"{len(unseen)} unseen of {len(scored_set.classes)} classes",
        "trained_on": dataset.name,
        "protocol": {
            **protocol.summary(),
            "rule": evaluate.GENERALISED[setup.generalised],
        },
        "primary": protocol.primary,
        "results": results,
        "definitions": {
            **{name: metrics.definition(name) for name in results[0]["metrics"]},
            "where": metrics.NOTATION,
        },
        "per_class": per_class,
        "timing": {
            "load_seconds": round(loaded - begin, 2),
            "train_seconds": round(trained - loaded, 2),
            "embed_and_score_seconds": round(scored - trained, 2),
            "total_seconds": round(scored - begin, 2),
        },
        "fingerprint": models["learned"].fingerprint,
        "hardware": f"{jax.devices()[0].device_kind} x{jax.device_count()}",
        "command": command or None,
        "page": str(out / "report.html"),
        "skipped": len(scored_set.skipped),
        "config": resolved,
        "notes": list(scored_set.notes),
    }
    shown = sheet(scored_set, protocol, rankings)
    report.write_report(out, summary, shown, writer.read(workdir))
    return summary


def scored_on(
    setup: Experiment, dataset: data.Dataset
) -> tuple[data.Dataset, tuple[str, ...]]:
    """The data set to score on, and its classes that training has not seen.

    Raises: ValueError where no class is left.
    """
    if not setup.score_data["name"]:
        return dataset, dataset.unseen
    wanted = setup.score_data
    other = data.load(wanted["name"], wanted["root"] or None, wanted["split"] or None)
    seen = {normal_name(name) for name in dataset.seen + dataset.val}
    unseen = tuple(name for name in other.unseen if normal_name(name) not in seen)
    if not unseen:
        raise ValueError(
            f"score_data: all {len(other.unseen)} unseen classes of {other.name} were "
            f"seen in training on {dataset.name}; give another split"
        )
    return other, unseen


def embed(
    model: Embedder, dataset: data.Dataset, protocol: evaluate.Protocol
) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of a protocol's queries and of its gallery."""
    return (
        model.embed_items(dataset.sketches, protocol.queries, "sketch"),
        model.embed_items(dataset.photos, protocol.gallery, "photo"),
    )


def cached_embed(
    model: Embedder,
    dataset: data.Dataset,
    protocol: evaluate.Protocol,
    folder: pathlib.Path,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """As `embed`, kept in `folder` as float16 beside a parquet of ids and labels.

    What is kept is used again only for the same embedder, data and protocol. Figures
    are always of the kept float16, so a run scored twice gives the same ones.
    """
    rows = hashlib.sha256(protocol.queries.tobytes() + protocol.gallery.tobytes())
    fingerprint = f"{model.fingerprint}:{dataset.fingerprint}:{rows.hexdigest()}"
    stamp = folder / f"{name}.json"
    paths = [folder / f"{name}_{modality}.npy" for modality in ("sketch", "photo")]
    if not stamp.exists() or json.loads(stamp.read_text()) != fingerprint:
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        items = (dataset.sketches, dataset.photos)
        indices = (protocol.queries, protocol.gallery)
        for path, found, source, rows in zip(
            paths, embed(model, dataset, protocol), items, indices, strict=True
        ):
            np.save(path, found.astype(np.float16))
            table = {
                "id": [source.ids[i] for i in rows],
                "class": [dataset.classes[source.labels[i]] for i in rows],
                "label": source.labels[rows],
                "instance": source.instances[rows],
            }
            pq.write_table(pa.table(table), path.with_suffix(".parquet"))
        # Written last: without it nothing above counts as whole.
        checkpoint.write_json(stamp, fingerprint)
    queries, gallery = (np.load(path).astype(np.float32) for path in paths)
    return queries, gallery


def sheet(
    dataset: data.Dataset,
    protocol: evaluate.Protocol,
    rankings: dict[str, evaluate.ScoreRows],
) -> list[report.Ranking]:
    """Queries for the report, as many of each class as fit, with their first photos."""
    order = np.lexsort((np.arange(len(protocol.queries)), protocol.query_labels))
    spread = np.linspace(0, len(order) - 1, min(SHEET, len(order)))
    picks = [int(query) for query in order[spread.astype(int)]]
    queries = dataset.sketches.pixels(protocol.queries[picks], SHEET_PIXELS)
    tops = {
        name: evaluate.top(protocol, score_rows, picks, SHOWN)
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
                report.Hit(
                    photo,
                    dataset.classes[protocol.gallery_labels[position]],
                    bool(right[position]),
                    float(score),
                )
                for photo, position, score in zip(photos, top, scores, strict=True)
            ]
        label = dataset.classes[protocol.query_labels[query]]
        shown.append(report.Ranking(image, label, hits))
    return shown
