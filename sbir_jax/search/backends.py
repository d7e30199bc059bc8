"""Backends by name; `exact_backend` is the default, the other two are for more photos
than that scans in time."""

import pathlib

from sbir_jax.search.backend import Backend, fill
from sbir_jax.search.exact_backend import Exact
from sbir_jax.search.shards import Snapshot


def open_backend(name: str, folder: pathlib.Path, snapshot: Snapshot) -> Backend:
    """The backend of this name over an index.

    Args:
      name: "exact", "faiss", or "milvus:URI" (a server's address or a local .db file).
      folder: the index; a backend keeps its own files below it.
    Raises: ValueError for another name; ImportError naming the extra to install.
    """
    kind, _, address = name.partition(":")
    if name == "exact":
        backend = Exact(snapshot.head.dim, snapshot.head.shard_rows)
        fill(backend, snapshot)
        return backend
    try:
        if name == "faiss":
            from sbir_jax.search import faiss_backend

            return faiss_backend.open_faiss(folder, snapshot)
        if kind == "milvus" and address:
            from sbir_jax.search import milvus_backend

            return milvus_backend.open_milvus(address, snapshot)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"backend {name!r} needs {error.name}: pip install 'sbir_jax[{kind}]'"
        ) from error
    raise ValueError(
        f"backend is {name!r}; give exact, faiss, or milvus:URI with the address of a "
        "Milvus server or a local file (milvus:./photos.db)"
    )
