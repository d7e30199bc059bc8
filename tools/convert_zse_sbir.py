"""Make safetensors of a checkpoint of ZSE-SBIR, or of the transformer it starts from.

    python -m tools.convert_zse_sbir best_checkpoint.pth zse-sketchy25.safetensors
    python -m tools.convert_zse_sbir sam_ViT-B_16.pth sam-vit-b16.safetensors

Needs torch (`pip install -e '.[parity]'`), which reads the file's tensors and runs
nothing of it: a file that holds more is refused. Names stay as they are.
"""

import argparse
import pathlib
from typing import Any

import numpy as np

from sbir_jax.runtime.tensor_files import save_tensors


def tensors_of(found: Any, path: str) -> dict[str, np.ndarray]:
    """Those of a state dict, alone or under "model" beside an epoch and figures.

    Raises: ValueError for anything else.
    """
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} holds no tensors by name; give a state dict")
    wrong = [name for name, value in found.items() if not hasattr(value, "numpy")]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]} is no tensor; save the state dict alone")
    return {
        name.removeprefix("module."): value.float().contiguous().numpy()
        for name, value in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="of torch.save")
    parser.add_argument("out", help="a new .safetensors file")
    args = parser.parse_args()
    import torch  # pyright: ignore

    # Beside its tensors the release keeps figures, which are numpy's.
    scalar = np.float64(0).__reduce__()[0]
    known = [(scalar, "numpy.core.multiarray.scalar"), scalar]
    known += [np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
    try:
        with torch.serialization.safe_globals(known):
            found = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        parser.error(
            f"{args.checkpoint} is no file of tensors alone and is not unpickled "
            f"({str(error).splitlines()[0]})"
        )
    out = pathlib.Path(args.out)
    partial = out.with_name(out.name + ".part")
    tensors = tensors_of(found, args.checkpoint)
    save_tensors(partial, tensors)
    partial.replace(out)
    print(f"{out}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
