"""How well is each sampling task done, from one checkpoint?

  python -m experiments.sweep experiments/tasks.py

The transformer of experiments/results/demo answers every task on clips that
move, and what it makes where nothing was given is compared with what really
happened (PSNR, dB), beside the same with another clip's caption, the dumb
answer (the nearest known frame, pixel or blend) and the autoencoder's ceiling.
A jump of 1 at the borders in time is the real clip's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import demo, world
from experiments import judging

COLUMNS = ("generated", "low", "high", "other caption", "filled", "autoencoder")
IN_TIME = (
  "i2v",
  "last_frame",
  "first_last",
  "extend",
  "extend_back",
  "connect",
)
TASKS = tuple(world.get_config().dit.evaluators.tasks.tasks)
METRICS = (
  *(f"tasks/{task}/{c}" for task in TASKS if task != "loop" for c in COLUMNS),
  *(f"tasks/{task}/jump" for task in (*IN_TIME, "loop")),
)


def base() -> ConfigDict:
  """All tasks on the set `composition`, without guidance."""
  c = judging.only(demo.get_config("composition"), tasks={"clips": 12})
  return judging.unguided(c)


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  yield "composition", {}
