"""Installs sbir_jax; tool settings are in pyproject.toml."""

from setuptools import find_packages, setup

SERVE = ["fastapi", "uvicorn", "python-multipart"]
TEST = ["pytest>=8", "pytest-xdist", "beartype", "ruff", "pyright"]
TEST += ["scikit-learn", "pytrec-eval-terrier"]  # the oracles of the metrics
TEST += [*SERVE, "httpx2"]  # httpx2: FastAPI's test client
TEST += ["nbclient", "ipykernel"]  # the notebooks
# The oracle: the models' PyTorch originals. Nothing in the package imports them.
PARITY = ["torch", "diffusers", "accelerate"]
FAISS = ["faiss-cpu"]
MILVUS = ["pymilvus", "milvus-lite"]
COCO = ["pycocotools"]  # the masks of RefCOCO
HEIC = ["pillow-heif"]
JXL = ["pillow-jxl-plugin"]
TEST += [*FAISS, *MILVUS, *COCO, *HEIC, *JXL]  # small; the others are for test-all
SCALE = ["ray[data]"]
# The page, in the chromium of the system.
PAGE = ["playwright", "axe-core-python"]

setup(
    name="sbir_jax",
    version="0.1.0",
    description="Find photos by drawing, with a frozen text-to-image diffusion model",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["sbir_jax", "sbir_jax.*"]),
    include_package_data=True,
    package_data={
        "sbir_jax": [
            "assets/toybox_sd/**/*",
            "assets/toybox_sd_tiny/*",
            "assets/toybox_judge/*",
            "assets/report/*",
            "assets/*.csv",
            "data/splits/*",
        ],
        "sbir_jax.search": ["page/*"],
    },
    install_requires=[
        "jax>=0.8",
        "flax",
        "optax",
        "orbax-checkpoint",
        "ml_collections",
        "absl-py",
        "numpy",
        "Pillow",
        "safetensors",
        "filelock",
        "huggingface_hub",
        "tqdm",
        "rich",
        "jaxtyping",
        "pydantic",
        "transformers",
        "sentencepiece",  # T5's tokenizer, with transformers
        "tensorflow-datasets",
        "array_record",
        "psutil",
        "pyarrow",
        "grain",
        "clu",
        "scipy",
        "tensorboardX",
        "matplotlib",
        "scikit-image",
        "resvg-py",
        "jinja2",
    ],
    extras_require={
        "test": TEST,
        "parity": PARITY,
        "serve": SERVE,
        "faiss": FAISS,
        "milvus": MILVUS,
        "coco": COCO,
        "heic": HEIC,
        "jxl": JXL,
        "scale": SCALE,
        "page": PAGE,
    },
    entry_points={"console_scripts": ["sbir = sbir_jax.search.cli:main"]},
)
