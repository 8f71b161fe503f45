"""What should the model predict, and at which noise levels should it learn?

  python -m experiments.sweep experiments/parameterisation.py

The quickstart's transformer for half of its steps, with another target, other
times of training or another weight, one at a time. All predictions are weighted
alike, by the error of x0 that they mean. All points share latents and batches;
what counts is what the oracle reads back of 256 fresh captions.

The target `noise` is no point: sampling begins at time 1, where nothing of the
data is left, so that a predicted noise does not say what the data are, and what
is taken for them hangs on how the division by zero is avoided. Nor is the
denoising error a metric: at equal times another schedule has other noise.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance, optimizer

METRICS = (
  *guidance.METRICS,
  "captions/generated low/motion",
  "captions/generated high/motion",
)


def base() -> ConfigDict:
  """As for the optimizers, without the denoising error."""
  c = optimizer.base()
  with c.unlocked():
    del c.dit.evaluators["fixed_times"]
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  yield "x0", {}
  yield "velocity", {"dit.process.target": "velocity"}
  cosine = {"dit.process.schedule": "cosine"}
  yield "x0, cosine schedule", cosine
  yield "v, cosine schedule", {**cosine, "dit.process.target": "v"}
  yield "uniform times", {"dit.times": {"name": "uniform"}}
  for mean in (-0.5, 0.5):
    times = {"name": "logit_normal", "mean": mean, "std": 1.0}
    yield f"times around {mean:+g}", {"dit.times": times}
  yield "equal weight of x0", {"dit.weight": {"name": "x0"}}
  yield "min SNR weight", {"dit.weight": {"name": "min_snr", "cap": 5.0}}
  # Towards noise by the root of a clip's 32 tokens over these; else by 2.
  yield "no shift", {"dit.shift.base_tokens": 32}
  yield "shift by 4", {"dit.shift.base_tokens": 2}
