"""Does motion keep the world's laws, in the training ranges and out of them?

  python -m experiments.sweep experiments/physics.py

The transformer of experiments/results/demo continues clips of the set `motion`
(uniform motion, bounces and collisions without loss) whose first five frames it
is shown. The errors of what follows stand beside the autoencoder's, the same
model's with another clip's caption, and two dumb baselines: the last frame
repeated, and the truth going straight on. `test_parameters` has sizes and
speeds that training never shows (the ranges of Kang et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import demo
from experiments import judging

WHO = (
  "generated",
  "real",
  "autoencoder",
  "other caption",
  "straight on",
  "last frame repeated",
)
LAWS = ("velocity", "position")
KEPT = ("energy", "momentum")  # errors of collisions, as shares of what was
METRICS = (
  "laws/generated/velocity",
  "laws/generated low/velocity",
  "laws/generated high/velocity",
  "laws/generated/position",
  "laws/generated low/position",
  "laws/generated high/position",
  *(f"laws/{who}/{law}" for law in LAWS for who in WHO[1:]),
  *(f"laws/generated clips/{law}" for law in (*LAWS, *KEPT)),
  *(f"laws/{who}/{law}" for law in KEPT for who in WHO),
)


def base() -> ConfigDict:
  """The laws of continued clips of the set `motion`, without guidance."""
  c = judging.only(demo.get_config("motion"), laws={"clips": 32})
  return judging.unguided(c)


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for split in ("test", "test_combinations", "test_parameters"):
    yield split, {"evaluation.split": split}
