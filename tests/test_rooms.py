"""Rooms import one way, and nothing grows beyond what can be read at once."""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "sbir_jax"
MODULE_LINES, FUNCTION_LINES, TOP = 350, 60, 12

# A room may import those named here, and itself.
TYPES = {"types"}
LOW = TYPES | {"runtime", "models"}
BELOW = {
    "types": set(),
    "printable": set(),
    "metrics": TYPES,
    "report": TYPES | {"data"},
    # Prefetch reads with the data's threads.
    "runtime": TYPES | {"data"},
    "data": TYPES | {"printable"},
    "models": TYPES | {"runtime"},
    "diffusion": TYPES | {"runtime"},
    "backbones": LOW | {"data", "diffusion"},
    "features": LOW | {"backbones", "diffusion", "adapters"},
    # A prompts file opens as an embedder.
    # Guides of a sampler are probabilities as `diffusion.guidance` takes them.
    "adapters": LOW | {"backbones", "diffusion", "features", "embedder"},
    "text_queries": LOW | {"backbones", "metrics"},
    "embedder": LOW
    | {"backbones", "diffusion", "features", "adapters", "data", "text_queries"},
    # The plain baseline, named as models are.
    "hog": TYPES | {"runtime", "metrics", "data", "backbones"},
    "reranker": LOW
    | {"adapters", "backbones", "config", "data", "features", "metrics", "report"},
    "train_step": {"adapters", "runtime"},
    "tasks": set(),  # the registry imports its tasks by name, when asked
    "config": {"tasks"},
    "tasks.base": LOW | {"config", "data", "backbones", "report"},
    "tasks.retrieval": LOW
    | {"config", "data", "backbones", "report", "metrics", "adapters"}
    | {"features", "embedder", "reranker", "text_queries", "tasks", "tasks.base", "hog"}
    | {"tasks.synthesis"},  # photos made of a drawing can stand beside it
    # What re-ranks is scored as what it re-ranks is.
    "tasks.token_matching": LOW
    | {"config", "data", "backbones", "report", "metrics", "adapters"}
    | {"features", "embedder", "reranker", "tasks", "tasks.base", "tasks.retrieval"},
    "dense": LOW | {"adapters", "backbones", "data", "diffusion", "report"},
    "tasks.dense": LOW
    | {"config", "data", "backbones", "report", "metrics", "adapters"}
    | {"dense", "tasks", "tasks.base"},
    "tasks.matching": LOW
    | {"config", "data", "backbones", "report", "metrics", "adapters"}
    | {"diffusion", "features", "tasks", "tasks.base"},
    "tasks.synthesis": LOW
    | {"config", "data", "backbones", "report", "metrics", "adapters"}
    | {"diffusion", "text_queries", "tasks", "tasks.base"},
    "train": {"adapters", "runtime", "tasks.base", "train_step"},
    "experiment": LOW
    | {"backbones", "config", "report", "tasks", "tasks.base", "train"},
    "main": {"config", "experiment", "printable", "runtime"},
    "search": LOW
    | {"adapters", "backbones", "data", "embedder", "features", "metrics", "report"}
    | {"hog", "printable", "reranker", "text_queries", "dense"}
    | {"tasks.matching", "tasks.synthesis"},
}
LONG_FUNCTIONS = {
    "data/__init__.py:load",  # half of it is its documentation
    "search/api.py:add_errors",  # a line or two for each kind of error
    "search/build.py:build",  # half of it is its documentation
    "search/arguments.py:parser",  # a line or two for each flag
    "search/distribute.py:distribute",
    "search/server.py:make_app",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def room(name: str) -> str:
    """The longest room that a module's dotted name lies in."""
    found = [r for r in BELOW if name == r or name.startswith(f"{r}.")]
    return max(found, key=len, default=name)


def imported(tree: ast.AST):
    """Modules of the package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("sbir_jax."):
                yield name.removeprefix("sbir_jax.")


def name_of(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_rooms_import_one_way():
    wrong = set()
    for path, tree in modules():
        mine = room(name_of(path))
        for other in imported(tree):
            theirs = room(other)
            if theirs not in {mine} | BELOW.get(mine, set()):
                wrong.add(f"{name_of(path)} imports {other}")
    assert not wrong, "\n".join(sorted(wrong))


def test_modules_import_in_no_circle():
    """Also not from inside of functions."""
    there = {name_of(path): set(imported(tree)) for path, tree in modules()}

    def module(name: str) -> str:
        while name and name not in there:
            name = name.rpartition(".")[0]
        return name

    graph = {
        name: {module(other) for other in others} - {name, ""}
        for name, others in there.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_module_is_in_a_room():
    there = {room(name_of(path)) for path, _ in modules()} - {""}
    assert there == set(BELOW)


def test_modules_and_functions_can_be_read_at_once():
    long = []
    for path, tree in modules():
        where = str(path.relative_to(PACKAGE))
        lines = len(path.read_text().splitlines())
        if lines > MODULE_LINES:
            long.append(f"{where}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                size = node.end_lineno - node.lineno + 1
                name = f"{where}:{node.name}"
                if size > FUNCTION_LINES and name not in LONG_FUNCTIONS:
                    long.append(f"{name}: {size} lines")
    assert not long, "\n".join(long)


def test_few_modules_are_at_the_top():
    top = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(top) <= TOP, top
