"""Where a run's figures go: JSON lines always, event files beside them.

clu's own writers import TensorFlow; this one has the same methods on tensorboardX.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from tensorboardX import SummaryWriter

from sbir_jax.runtime import multiprocess, schema


@dataclasses.dataclass(frozen=True)
class _Row:
    step: Annotated[int, Field(ge=0)]


class MetricWriter:
    """Writes scalars to `metrics.jsonl` and to event files for TensorBoard.

    Rows after `start_step`, the step of the checkpoint that a killed run resumes from,
    are dropped first: they will be written again, and no step stands there twice.
    Of several processes the first one writes, and the others do nothing.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int = 0):
        self._events = None
        if not multiprocess.is_first():
            return
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        # Of a run that starts anew nothing is left: its start is scored again.
        rows = read(workdir) if start_step else []
        rows = [row for row in rows if row["step"] <= start_step]
        partial = self.path.with_suffix(".part")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(partial, self.path)
        self._events = SummaryWriter(str(workdir), purge_step=start_step or None)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._events is None:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            # Event files allow no "@" in a name.
            self._events.add_scalar(name.replace("@", "_at_"), value, step)

    def flush(self) -> None:
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def read(workdir: pathlib.Path) -> list[dict]:
    """The rows so far; what comes after a line that was cut short by a kill, or is
    damaged, is left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = schema.parsed(line)
            schema.validated(_Row, row, path.name)
        except ValueError:
            break
        rows.append(row)
    return rows
