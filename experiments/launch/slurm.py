"""Trains a config on a SLURM cluster, one process a node, through submitit.

  pip install submitit
  python -m experiments.launch.slurm --nodes=4 --gpus=8 --partition=gpu \\
    --workdir=/shared/runs/one -- --config=configs/dit_xl.py \\
    --config.strategy=fsdp

What follows `--` goes to sora_jax.main. A job that reaches its time limit saves
and is queued again until it has finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from absl import app, flags

from sora_jax.utils import logs

STOPPED = 128 + signal.SIGTERM  # what a run that saved on SIGTERM ends with


def command(workdir: str, arguments: Sequence[str]) -> list[str]:
  """What every node runs; SLURM tells JAX who the others are."""
  return [
    *(sys.executable, "-m", "sora_jax.main", f"--workdir={workdir}"),
    *("--coordinator=auto", *arguments),
  ]


@dataclasses.dataclass
class Training:
  """A job that submitit can queue again, which is what `checkpoint` asks."""

  workdir: str
  arguments: tuple[str, ...]

  def __call__(self) -> None:
    self._running = subprocess.Popen(command(self.workdir, self.arguments))
    code = self._running.wait()
    if code not in (0, STOPPED):
      raise subprocess.CalledProcessError(code, self._running.args)

  def checkpoint(self):
    """Stops the run, which saves, and asks for another turn."""
    import submitit

    self._running.send_signal(signal.SIGTERM)
    self._running.wait()
    return submitit.helpers.DelayedSubmission(self)


def main(argv: Sequence[str]) -> None:
  """Queues the job."""
  import submitit

  options = flags.FLAGS
  executor = submitit.AutoExecutor(pathlib.Path(options.workdir) / "slurm")
  executor.update_parameters(
    name="sora_jax",
    nodes=options.nodes,
    tasks_per_node=1,
    gpus_per_node=options.gpus,
    cpus_per_task=options.cpus,
    timeout_min=options.minutes,
    slurm_partition=options.partition,
    slurm_max_num_timeout=1000,
  )
  job = executor.submit(Training(options.workdir, tuple(argv[1:])))
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
