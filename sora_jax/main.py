"""Train, sample, evaluate or cost a config.

python -m sora_jax.main --config=configs/quickstart.py
python -m sora_jax.main --config=... --workdir=... --mode=sample
python -m sora_jax.main --config=... --mode=dryrun --devices=256
"""

from __future__ import annotations

import time
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from sora_jax.modes import MODES
from sora_jax.run import Run
from sora_jax.utils import cache, logs

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
_MODE = flags.DEFINE_enum("mode", "train", tuple(MODES), "What to do.")


def _workdir() -> Path:
  if _WORKDIR.value:
    return Path(_WORKDIR.value)
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
  if _DEVICES.value:
    _pretend(_DEVICES.value)
  cache.keep_compiled()
  workdir = _workdir()
  logs.say(f"workdir: {workdir}")
  MODES[_MODE.value](Run(_CONFIG.value, workdir))


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
