"""What can a model be given, so that it need not be learned?

  python -m experiments.sweep experiments/prior.py

The demo's transformer from nothing, for 500 steps on the demo's clips (its
latents are made once): what it predicts, and where its attention begins.
Predicting `v` makes it correct a linear estimate of the data, which at little
noise is nearly right by itself (Karras et al. 2022, "EDM", section 5);
predicting `x0`, it has to copy what it sees through all layers. `tubes` heads
of each block begin by looking at their own place at all times. Judged by the
error of x0 at ten noise levels, and by how well clips are continued from their
first frame.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import demo
from experiments import judging

TIMES = ("0.05", "0.25", "0.45", "0.65", "0.85", "0.95")
METRICS = (
  "fixed_times/mean/error",
  *(f"fixed_times/{time}/error" for time in TIMES),
  "continuation/generated/psnr",
  "continuation/other caption/psnr",
  "continuation/first frame repeated/psnr",
  "continuation/autoencoder/psnr",
)


def base() -> ConfigDict:
  """The demo from nothing, for few steps."""
  judges = {"fixed_times": {}, "continuation": {"clips": 32}}
  c = judging.only(demo.get_config(), **judges)
  with c.unlocked():
    c.dit.checkpoint = ""
    c.dit.schedule.update(until="500 steps", evaluate="never")
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for target in ("x0", "v"):
    for tubes in (0, 1):
      changes = {"dit.process.target": target, "dit.model.tubes": tubes}
      yield f"{target}, {tubes} tubes", changes
