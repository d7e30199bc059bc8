#!/usr/bin/env bash
# One training run on all hosts of a Cloud TPU slice. Written from the documentation of
# Google Cloud and JAX; NOT yet tried on a real slice.
#
#   TPU=my-slice ZONE=us-east5-b REPO=/mnt/shared/sbir_jax \
#     tools/start_tpu.sh --config configs/sketchy.py --workdir /mnt/shared/runs/one
#
# TPU, ZONE: the slice, as `gcloud compute tpus tpu-vm list` shows it.
# REPO: this repository with its .venv, and the run folder and data: on a file system
# that all hosts mount (Filestore). The .venv needs jax[tpu]:
#   .venv/bin/pip install 'jax[tpu]' -e .
# Every host starts the same program; --distributed=auto asks the TPU who is who. A run
# that was stopped goes on: give the same command again.
set -euo pipefail
: "${TPU:?the name of the slice}" "${ZONE:?its zone}" "${REPO:?this repository there}"

printf -v arguments '%q ' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command \
  "cd $(printf '%q' "$REPO") && .venv/bin/python -m sbir_jax.main --distributed=auto $arguments"
