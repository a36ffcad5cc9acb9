#!/bin/bash
#SBATCH --job-name=diffsweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=INT@180
# GPUs:
##SBATCH --gpus-per-node=4
#
# A search on a Slurm allocation: Ray starts on all its nodes, the search runs, Ray ends. Run it
# from a folder on the file system that the nodes share, with diffsweep on the PATH there:
#
#   sbatch cluster/slurm.sh submit my.yaml
#   sbatch cluster/slurm.sh resume my-1a2b3c    # after the time limit, or any other end
#
# Searches are under $DIFFSWEEP_HOME, or ./runs, on the shared file system; MLFLOW_TRACKING_URI
# names a server that the nodes reach. 180 s before the time limit all is interrupted, not killed.
set -euo pipefail
if [[ ${1-} != submit && ${1-} != resume && ${1-} != confirm ]]; then
  echo "slurm.sh: want submit SPEC, resume ID or confirm ID, and got: ${*:-nothing}" >&2
  exit 2
fi

# One home and one token for all nodes, readable by nobody else
umask 077
export DIFFSWEEP_HOME=${DIFFSWEEP_HOME:-$PWD/runs}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$DIFFSWEEP_HOME/auth_token
export RAY_JOB_STOP_SIGNAL=SIGINT RAY_USAGE_STATS_ENABLED=0
mkdir -p "$DIFFSWEEP_HOME"
if [[ ! -s $RAY_AUTH_TOKEN_PATH ]]; then
  python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH"
fi

# Ray is told the head by its address, since a name may lead to loopback there. Ports are of this
# job, for nodes that are shared with other jobs.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))
dashboard=$((30000 + SLURM_JOB_ID % 10000))

if [[ $1 == submit ]]; then
  set -- "$@" --set "storage=$DIFFSWEEP_HOME/storage"
fi

# The driver may be on any node, and asks the dashboard; who has no token gets no answer from it
srun ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --dashboard-host "$address" --dashboard-port "$dashboard" \
  -- diffsweep "$@" --cluster "http://$address:$dashboard" --wait
