"""Flags that several commands of `sbir` have."""

import argparse


def building(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="GLOB",
        help="names to pass over, e.g. thumbs or '*.gif'; may be given again, and is "
        "remembered (INDEX/exclude.txt)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="also take out photos of folders that are gone as a whole",
    )
    parser.add_argument(
        "--reread",
        action="store_true",
        help="open every file, also those with the size and time they had",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=0,
        help="photos at a time (default: what fits the memory)",
    )


def drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as-drawn",
        action="store_true",
        help="take the drawing as it is; by default it is first made dark on white, "
        "centred and large",
    )


def backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", default="exact", help="exact (default), faiss, or milvus:URI"
    )


def matcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matcher",
        default="",
        metavar="RUN",
        help="a run of the task matching, or a backbone, that puts photos in order by "
        "words (default: the index's own model, training-free)",
    )


def reranker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rerank",
        default="",
        metavar="RUN",
        help="a run of the task reranking, or tokens, that looks at the drawing and a "
        "photo together: it puts the first photos in a new order, and explains them "
        "(docs/token_matching.md)",
    )


def imaginer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--imagine",
        default="",
        metavar="RUN",
        help="a run of the task synthesis, which makes photos of a drawing to search "
        "with (docs/search.md)",
    )


def model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="", help="where the index's model is now, if it was moved"
    )


def fetching(parser: argparse.ArgumentParser) -> None:
    """Of every command that may fetch a model."""
    parser.add_argument(
        "--yes",
        action="store_true",
        help="fetch a model that is not here without asking",
    )
