"""Tasks by name: a line for each, and the module and class that are imported for it."""

import difflib
import importlib
from typing import Any

RETRIEVAL = "sbir_jax.tasks.retrieval.task:Retrieval"
TASKS = {
    "category": RETRIEVAL,
    "fine_grained": RETRIEVAL,
    "segmentation": "sbir_jax.tasks.dense.segmentation:Segmentation",
    "referring": "sbir_jax.tasks.dense.referring:Referring",
    "depth": "sbir_jax.tasks.dense.depth:Depth",
    "matching": "sbir_jax.tasks.matching.task:Matching",
    "tokens": "sbir_jax.tasks.token_matching.task:TokenMatching",
    "reranking": "sbir_jax.tasks.token_matching.reranking:Reranking",
    "synthesis": "sbir_jax.tasks.synthesis.task:Synthesis",
}


def find(name: str) -> Any:
    """The class of a task.

    Raises: ValueError for a name that is not here, with the nearest one.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(str(name), TASKS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"task is {name!r}; give {' or '.join(TASKS)}{hint}")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
