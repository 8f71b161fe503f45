"""How near do four steps come to fifty?

  python -m experiments.sweep experiments/few_steps.py

The quickstart's model with fifty, thirty and four steps of its own sampler,
with four of a better solver, and its students (configs/few_steps.py), which
guidance is built into: one that learns where the flow ends, with one to eight
steps, and one that learns where each of its quarters does, with four. What
counts is what the oracle reads back of 256 fresh captions, and the Fréchet
distance from real clips. A step of a student is one pass of the model; one of
the teacher, with guidance, two.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import few_steps
from experiments import guidance

TEACHER = "teacher, 50 steps"
METRICS = guidance.METRICS


def base() -> ConfigDict:
  """The quickstart, judged as for guidance."""
  return guidance.base()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  steps = "sample.steps"
  for count in (50, 30, 4):
    yield f"teacher, {count} steps", {steps: count}
  flow = {"sample.solver": {"name": "dpmpp_2m"}}
  yield "teacher, 4 steps of dpmpp_2m", {steps: 4, **flow}
  student = few_steps.get_config()
  changes = {"sample.guidance": student.sample.guidance.to_dict()}
  for part in ("weight", "times", "optimizer"):
    changes[f"dit.{part}"] = student.dit[part].to_dict()
  changes["dit.schedule.until"] = student.dit.schedule.until
  own = student.dit.objective.to_dict()
  for name, objective, solver, counts in (
    ("the whole", {"steps": 8, "parts": 1}, "renoise", (1, 2, 4, 8)),
    ("quarters", {"steps": 16, "parts": 4}, "euler", (4,)),
  ):
    learned = {"dit.objective": own | objective, **changes}
    learned["sample.solver"] = {"name": solver}
    for count in counts:
      yield f"student of {name}, {count} steps", {**learned, steps: count}
