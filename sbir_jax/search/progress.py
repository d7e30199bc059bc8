"""The bar of a build, which says that the model compiles before there is a rate."""

import time

from tqdm.auto import tqdm

from sbir_jax.runtime.prefetch import Waiting


class Progress:
    """A context manager; counts photos that are read, sent, or passed over."""

    def __init__(self, total: int, waiting: Waiting, shown: bool):
        self.waiting, self._began = waiting, False
        self._bar = tqdm(
            total=total,
            desc="index: reading the first photos, and compiling the model for them",
            bar_format="{desc} ({elapsed})",
            unit="photo",
            disable=not shown or not total,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.begin()
        self._bar.close()

    def update(self) -> None:
        if self._began:
            share = f"waiting {self.waiting.share:.0%}"
            self._bar.set_postfix_str(share, refresh=False)
        self._bar.update()

    def begin(self) -> None:
        """The first descriptors are there: from now on time tells of the rest."""
        if self._began or self._bar.disable:
            return
        self._began = True
        bar, done = self._bar, self._bar.n
        bar.bar_format = None
        bar.set_description("index", refresh=False)
        bar.reset()
        bar.n = bar.last_print_n = bar.initial = done
        bar.start_t = bar.last_print_t = time.time()
        bar.refresh()
