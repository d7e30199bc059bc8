#!/usr/bin/env bash
# What is worth ten minutes of a GPU: the Toybox model trained further, then the bench.
#
#   tools/on_gpu.sh OUT [MINUTES]      training takes MINUTES (default 4), the bench 5
#   tools/on_gpu.sh OUT --quick        the same commands in small, for a computer without
#
# PYTHON: with jax for the GPU, and torch and diffusers for the other side of the bench
# (default: python3). What is done is in OUT whenever it stops: the model, its curves and
# samples, and the bench's lines and table. A step that fails does not stop the next one.
set -uo pipefail
out=${1:?a folder for the results}
python=${PYTHON:-python3}
mkdir -p "$out"

if [ "${2:-}" = --quick ]; then
  training=(--quick) bench=(--quick)
else
  training=(--minutes "${2:-4}")
  bench=(--model sd21 --sizes 512 --dtype bfloat16 --product 8192
    --kinds extract,train --batches 8,32 --runs 10 --peer compiled)
fi

"$python" -m tools.pretrain_toybox --start toybox "${training[@]}" \
  --workdir "$out/pretraining" --out "$out/model" 2>&1 | tee "$out/pretraining.log"
nvidia-smi 2>/dev/null | tee "$out/gpu.txt"
peer=()
"$python" -c 'import torch, diffusers' 2>/dev/null && peer=(--peer-python "$python")
timeout 300 "$python" -m tools.bench "${bench[@]}" "${peer[@]}" \
  --workdir "$out/bench" 2>&1 | tee "$out/bench.log"
# Weights of the bench are random and large, chunks are rendered again; --start takes
# the model, where it was written, as well as a checkpoint.
rm -rf "$out/bench" "$out/pretraining/chunks"
[ -e "$out/model/model_index.json" ] && rm -rf "$out/pretraining/unet/checkpoints"
echo "results: $out"
