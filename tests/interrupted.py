"""sora_jax.main, in which a signal arrives before step `at` of a stage.

python tests/interrupted.py STAGE AT SIGNAL WORKDIR, and the flags of main
"""

import os
import pathlib
import signal
import sys
import time

from absl import app, flags

from sora_jax import main
from sora_jax.training import loop

stage, at, name, workdir = sys.argv[1:5]
sys.argv = sys.argv[:1] + sys.argv[5:]
run, put = loop.Loop.run, loop.put
steps = 0


def counted(batch, sharding):
  """`loop.put`, with the signal."""
  global steps
  steps += 1
  if steps == int(at):
    # The checkpoint of step 2 is written in the background: let it be.
    while name == "SIGKILL" and not pathlib.Path(workdir, stage, "2").exists():
      time.sleep(0.01)
    os.kill(os.getpid(), getattr(signal, name))
  return put(batch, sharding)


def watched(self, state, **meta):
  """`Loop.run`, counting the steps of one stage."""
  loop.put = counted if self.stage == stage else put
  return run(self, state, **meta)


loop.Loop.run = watched
flags.mark_flag_as_required("config")
app.run(main.main)
