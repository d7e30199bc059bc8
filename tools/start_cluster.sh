#!/usr/bin/env bash
# One training run on several GPU machines of a Slurm cluster: one process for each
# machine, with all its GPUs. Written from the documentation of Slurm and JAX; NOT yet
# tried on a real cluster.
#
#   sbatch --nodes 2 --gpus-per-node 8 tools/start_cluster.sh \
#     --config configs/sketchy.py --workdir /shared/runs/one
#
# Submit it from the repository, which lies with its .venv, the run folder and the data
# on a file system that all machines mount. The .venv needs CUDA's JAX:
#   .venv/bin/pip install 'jax[cuda13]' -e .
# A run that was stopped, or requeued, goes on where its last checkpoint is.
#
#SBATCH --job-name=sbir
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail

# Process 0 runs on the first machine. A port of its own for each job, out of the way.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export COORDINATOR="$first:$((20000 + SLURM_JOB_ID % 20000))"
# One of them failing ends all: the others would wait for it.
srun --kill-on-bad-exit=1 bash -c '
  exec .venv/bin/python -m sbir_jax.main \
    --distributed="$COORDINATOR,$SLURM_NTASKS,$SLURM_PROCID" "$@"' sbir "$@"
