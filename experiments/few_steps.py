"""How near do four steps come to fifty?

  python -m experiments.sweep experiments/few_steps.py

The quickstart's model with fifty and four steps of its own sampler, with four
of a better solver or at other times, and with stronger guidance; and its
students, which such guidance is built into (configs/few_steps.py): one that
learns where each quarter of the flow ends, of 32 steps of the teacher, with
four steps, and one that learns where the whole does, of eight, with one to
eight. What counts is what the oracle reads back of 256 fresh captions, and the
Fréchet distance from real clips. A step of a student is one pass of the model;
one of the teacher, with guidance, two.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import few_steps
from experiments import guidance
from sora_jax.diffusion import process, sampler

TEACHER = "teacher, 50 steps"
METRICS = guidance.METRICS


def base() -> ConfigDict:
  """The quickstart, judged as for guidance."""
  return guidance.base()


def _gaussian(steps: int) -> tuple[float, ...]:
  """Times that are best of Gaussian data once they are shifted by tokens."""
  c = base()
  shift, tokens = c.dit.shift, c.tokens * c.dit.frames
  by = (tokens / shift.base_tokens) ** shift.power
  found = process.moved(sampler.gaussian(steps, stds=(0.3, 1.0)), 1 / by)
  return tuple(round(t, 6) for t in found.tolist())


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  steps, solver = "sample.steps", "sample.solver"
  for count in (50, 4):
    yield f"teacher, {count} steps", {steps: count}
  yield (
    "teacher, 4 steps of dpmpp_2m",
    {steps: 4, solver: {"name": "dpmpp_2m"}},
  )
  euler = {steps: 4, solver: {"name": "euler"}}
  yield "teacher, 4 steps of euler", euler
  times = {"name": "given", "times": _gaussian(4)}
  yield (
    "teacher, 4 steps of euler at Gaussian times",
    euler | {"sample.grid": times},
  )
  student = few_steps.get_config()
  learned = {"sample.guidance": student.sample.guidance.to_dict()}
  for part in ("weight", "times", "optimizer"):
    learned[f"dit.{part}"] = student.dit[part].to_dict()
  learned["dit.schedule.until"] = student.dit.schedule.until
  own = student.dit.objective.to_dict()
  strong = {steps: 50, "sample.guidance.scale": own["scale"]}
  name = f"guidance {own['scale']:g}"
  yield f"teacher, 50 steps, {name}", strong
  flow = {solver: student.sample.solver.to_dict()}
  yield f"teacher, 50 steps of euler, {name}", strong | flow
  count = student.sample.steps
  yield (
    f"student of quarters, {count} steps",
    {**learned, **flow, "dit.objective": own, steps: count},
  )
  # Few and large steps of the teacher: over the whole way errors add up.
  learned["dit.objective"] = own | {"steps": 8, "parts": 1}
  learned[solver] = {"name": "renoise"}
  for count in (1, 2, 4, 8):
    yield f"student of the whole, {count} steps", {**learned, steps: count}
