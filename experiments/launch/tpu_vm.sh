#!/usr/bin/env bash
# A Cloud TPU that exists:
#   experiments/launch/tpu_vm.sh NAME ZONE WORKDIR CONFIG [flags of main]
# The repository lies in ~/sora_jax on every host of it, beside an environment
# ~/venv with Python 3.11 or newer; WORKDIR is on a file system that all mount.
set -euo pipefail
name=$1 zone=$2 workdir=$3 config=$4
shift 4
gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "
  cd ~/sora_jax && . ~/venv/bin/activate && pip install -q -c constraints.txt -e '.[tpu]' &&
  python -m sora_jax.main --config=$config --workdir=$workdir --coordinator=auto${1+$(printf ' %q' "$@")}"
