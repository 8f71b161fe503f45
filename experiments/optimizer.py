"""AdamW or Muon?

  python -m experiments.sweep experiments/optimizer.py --seeds=3

The quickstart's transformer, trained for as many steps by each, at three
learning rates; the minutes stand beside. Both share latents, batches and
everything else. What counts is how much of fresh captions the oracle reads back
when the model is half trained.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance

METRICS = (*guidance.METRICS, "fixed_times/mean/error")
STEPS = 1500


def base() -> ConfigDict:
  """The quickstart, for fewer steps, judged by captions and error."""
  c, times = guidance.base(), {"name": "fixed_times", "times": 10}
  with c.unlocked():
    c.dit.schedule.until = f"{STEPS} steps"
    c.dit.evaluators.fixed_times = times
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  key = "dit.optimizer."
  for rate in (5e-4, 1e-3, 2e-3):
    yield f"adamw {rate:g}", {key + "learning_rate": rate}
  for rate in (1e-3, 3e-3, 1e-2):
    muon = {key + "name": "muon", key + "b1": 0.95}
    yield f"muon {rate:g}", {**muon, key + "learning_rate": rate}
