"""What does each task gain from noise levels of its own for every token?

  python -m experiments.sweep experiments/levels.py

The quickstart's transformer, trained with one level for the whole clip, with
clean regions beside it (which is what tasks show the model), with a level for
every latent frame, and with all of these as it is configured. Captions are
judged by the oracle; tasks by the PSNR of what was not given, beside the same
with another clip's caption, the dumb answer and the autoencoder's ceiling.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import quickstart
from experiments import guidance, judging
from experiments.tasks import COLUMNS

TASKS = ("i2v", "last_frame", "inpaint", "outpaint")
METRICS = (
  *(f"tasks/{task}/{column}" for task in TASKS for column in COLUMNS),
  *guidance.CAPTIONS,
)


def base() -> ConfigDict:
  """The quickstart, judged by captions and tasks."""
  c = judging.only(quickstart.get_config(), captions={"empty": 2})
  with c.unlocked():
    c.dit.evaluators.tasks = {
      "name": "tasks",
      "tasks": TASKS,
      "clips": 64,
      "keep": 1,
      "seed": 0,
    }
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  regions = {"first_frame": 0.2, "last_frame": 0.1, "mask": 0.2}
  for name, mixture in (
    ("one level", {"clip": 1.0}),
    ("clean regions", {"clip": 0.5, **regions}),
    ("levels by frame", {"clip": 0.5, "frames": 0.5}),
  ):
    yield name, {"dit.mixture": mixture}
  yield "as configured", {}
