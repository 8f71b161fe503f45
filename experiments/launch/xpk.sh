#!/usr/bin/env bash
# A TPU slice of GKE by XPK:
#   STORAGE=NAME experiments/launch/xpk.sh CLUSTER WORKDIR CONFIG [flags of main]
# STORAGE is a file system that `xpk storage attach` made known; WORKDIR is in it.
set -euo pipefail
cluster=$1 workdir=$2 config=$3
shift 3
xpk workload create \
  --cluster "$cluster" \
  --storage "${STORAGE:?name of a storage that all pods mount}" \
  --workload "sora-jax-$(date +%s)" \
  --tpu-type "${TPU_TYPE:-v6e-16}" \
  --base-docker-image "${IMAGE:-python:3.11}" \
  --script-dir . \
  --command "pip install -c constraints.txt -e '.[tpu]' && python -m sora_jax.main \
    --config=$config --workdir=$workdir --coordinator=auto${1+$(printf ' %q' "$@")}"
