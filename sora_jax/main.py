"""Train, sample, evaluate, export or cost a config.

python -m sora_jax.main --config=configs/quickstart.py
python -m sora_jax.main --config=... --workdir=... --mode=sample
python -m sora_jax.main --config=... --mode=dryrun --devices=256
python -m sora_jax.main --config=... --workdir=... --coordinator=auto
"""

from __future__ import annotations

import time
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from sora_jax.modes import MODES
from sora_jax.run import Run
from sora_jax.utils import cache, logs, processes

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, e.g. configs/dit_b.py or configs/dit_b.py:tiny."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; a new one under runs/ by default."
)
_DEVICES = flags.DEFINE_integer(
  "devices",
  0,
  "How many a dryrun pretends to have; 0 for real ones.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator",
  "",
  "Of several processes: HOST:PORT of the first, or 'auto' on SLURM, Open MPI, "
  "GKE and Cloud TPU. They need a common --workdir.",
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "How many there are.")
_PROCESS = flags.DEFINE_integer("process", 0, "Which of them this is.")
_MODE = flags.DEFINE_enum("mode", "train", tuple(MODES), "What to do.")


def _workdir() -> Path:
  if "://" in (_WORKDIR.value or ""):
    raise app.UsageError(f"{_WORKDIR.value}: mount it, and name the folder")
  if _WORKDIR.value:
    return Path(_WORKDIR.value)
  if _COORDINATOR.value:
    raise app.UsageError("several processes need a --workdir in common")
  file = Path(config_flags.get_config_filename(flags.FLAGS["config"]))
  return Path("runs") / f"{file.stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _pretend(devices: int) -> None:
  """Makes the CPU look like so many devices, before JAX looks at it."""
  if _MODE.value != "dryrun":
    raise app.UsageError("--devices is for --mode=dryrun, which runs nothing")
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", devices)


def main(argv: list[str]) -> None:
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  logging.set_verbosity(logging.WARNING)
  workdir = _workdir()
  if _DEVICES.value:
    _pretend(_DEVICES.value)
  if _COORDINATOR.value:
    processes.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  cache.keep_compiled()
  logs.say(f"workdir: {workdir}")
  MODES[_MODE.value](Run(_CONFIG.value, workdir))


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
