"""How sure a run's figures are, given the test set: intervals for the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir_jax.metrics import bootstrap
from sbir_jax.report.sections import Table
from sbir_jax.tasks.retrieval.protocols import Protocol


def uncertainty(
    protocol: Protocol, primary: Mapping[str, Float[np.ndarray, " q"]]
) -> dict[str, Any]:
    """Intervals of the primary metric, and of what the learned model gains.

    By category whole classes are drawn again, by instance whole photos with their
    sketches: what the figures would be on other classes, or other photos.

    Args:
      primary: each model's value for every query.
    Returns: JSON values for report.json; nothing where there is but one group.
    """
    over, groups = "classes", protocol.query_labels
    if protocol.task == "fine_grained":
        over, groups = "photos", protocol.query_instances
    if len(np.unique(groups)) < 2:
        return {}
    found = {
        "metric": protocol.primary,
        "level": bootstrap.LEVEL,
        "over": over,
        "groups": len(np.unique(groups)),
        "intervals": {
            name: list(bootstrap.interval(values, groups))
            for name, values in primary.items()
        },
    }
    if {"learned", "frozen"} <= set(primary):
        gains = primary["learned"] - primary["frozen"]
        found["gain"] = list(bootstrap.interval(gains, groups))
    return found


def section(found: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """The same for a reader."""
    rows = [
        (names.get(name, name), *(f"{end:.3f}" for end in ends))
        for name, ends in found.get("intervals", {}).items()
    ]
    if "gain" in found:
        rows.append(("Learned minus frozen", *(f"{end:+.3f}" for end in found["gain"])))
    says = ""
    if found:
        says = (
            f"{found['metric']}: {found['level']:.0%} bootstrap intervals over "
            f"{found['groups']} {found['over']}; that of the difference is paired, and "
            "where it spans 0 no difference is shown."
        )
    return Table(
        "How sure they are",
        ("", "from", "to"),
        rows,
        lead=says,
    )
