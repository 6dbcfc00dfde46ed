#!/usr/bin/env bash
# Trains with several processes on this machine, one per GPU (or on the CPU where there is none):
#   tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# On several machines run it on each, with NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT set.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of tools/train.py]" >&2
    exit 2
fi
config=$1
processes=$2
# torchrun would give each process one thread, which idles the other cores when the work is done on them.
cores=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > processes ? cores / processes : 1))}"
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
