"""Trains a config on a SLURM cluster, one process a node, through submitit.

  pip install submitit
  python -m experiments.launch.slurm --nodes=4 --gpus=8 --partition=gpu \\
    --workdir=/shared/runs/one -- --config=configs/dit_xl.py \\
    --config.strategy=fsdp --config.dit.rows.rows=32 \\
    --config.autoencoder.batch=32

What follows `--` goes to sora_jax.main. A job that reaches its time limit saves
and is queued again until it has finished.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from absl import app, flags

from sora_jax.utils import logs

STOPPED = 128 + signal.SIGTERM  # what a run that saved on SIGTERM ends with
GRACE = 300  # seconds to save in


def command(workdir: str, arguments: Sequence[str]) -> list[str]:
  """What every node runs; SLURM tells JAX who the others are."""
  return [
    *(sys.executable, "-m", "sora_jax.main", f"--workdir={workdir}"),
    *("--coordinator=auto", *arguments),
  ]


def _deaf() -> None:
  """SLURM warns every process of a job; only the first is to hear it."""
  signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclasses.dataclass
class Training:
  """A job that submitit can queue again, which is what `checkpoint` asks."""

  workdir: str
  arguments: tuple[str, ...]
  gpus: int

  def __call__(self) -> None:
    # Without it JAX takes one GPU for each of SLURM's tasks.
    devices = ",".join(map(str, range(self.gpus)))
    self._running = subprocess.Popen(
      command(self.workdir, self.arguments),
      env=os.environ | {"JAX_LOCAL_DEVICE_IDS": devices},
      preexec_fn=_deaf,
    )
    code = self._running.wait()
    if code not in (0, STOPPED):
      raise subprocess.CalledProcessError(code, self._running.args)

  def stop(self) -> Training:
    """Has the run save and end; what goes on from there.

    It is called by a signal's handler within `__call__`, whose wait holds the
    lock of Popen, so it waits by the system's own call.
    """
    try:
      os.kill(self._running.pid, signal.SIGTERM)
      os.waitid(os.P_PID, self._running.pid, os.WEXITED | os.WNOWAIT)
    except (ChildProcessError, ProcessLookupError):
      pass  # it has ended by itself
    return Training(self.workdir, self.arguments, self.gpus)

  def checkpoint(self):
    """What submitit calls before the time is over: asks for another turn."""
    import submitit

    return submitit.helpers.DelayedSubmission(self.stop())


def main(argv: Sequence[str]) -> None:
  """Queues the job."""
  import submitit

  options = flags.FLAGS
  executor = submitit.AutoExecutor(
    pathlib.Path(options.workdir) / "slurm", slurm_max_num_timeout=1000
  )
  executor.update_parameters(
    name="sora_jax",
    nodes=options.nodes,
    tasks_per_node=1,
    gpus_per_node=options.gpus,
    cpus_per_task=options.cpus,
    timeout_min=options.minutes,
    slurm_partition=options.partition,
    slurm_signal_delay_s=GRACE,
  )
  job = executor.submit(
    Training(options.workdir, tuple(argv[1:]), options.gpus)
  )
  logs.say(f"queued as {job.job_id}; logs in {executor.folder}")


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "folder that all nodes can see")
  flags.DEFINE_string("partition", None, "queue of the cluster")
  flags.DEFINE_integer("nodes", 1, "machines")
  flags.DEFINE_integer("gpus", 8, "of each")
  flags.DEFINE_integer("cpus", 32, "of each")
  flags.DEFINE_integer("minutes", 24 * 60, "before the job is queued again")
  flags.mark_flags_as_required(["workdir", "partition"])
  app.run(main)
