"""What does more compute buy, and in which size of model?

  python -m experiments.sweep experiments/scaling.py
  python -m experiments.scaling

The quickstart's transformer in four widths, each trained for 250 steps, and for
4 and 16 times as many: the compute of Sora's own figure. Learning rates are
those of the width 128, transferred to the others (`optimizer.base_width`). The
first command makes results/scaling.csv. The second one fits

  error = a C^-b

to the least denoising error of held-out clips at each compute C (model FLOPs),
of all that is not worse than a cheaper point, and writes scaling_fit.csv and
the plot scaling_fit.png. A point of several seeds is their mean: the luckiest
of them alone would make the law too good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import app
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import cells, optimizer, record
from sora_jax.utils import logs

ERROR = "fixed_times/mean/error"
METRICS = (ERROR, *optimizer.METRICS[:-1])
WIDTHS = (32, 64, 128, 192)
STEPS = (250, 1000, 4000)


def base() -> ConfigDict:
  """As for the optimizers, and rates that are transferred from width 128."""
  c = optimizer.base()
  with c.unlocked():
    c.dit.optimizer.base_width = 128
    c.dit.ema = 0.99
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  model = "dit.model."
  for width in WIDTHS:
    heads = max(width // 64, 1)
    size = {model + "width": width, model + "heads": heads}
    size |= {model + "mlp": 4 * width, model + "text.width": width}
    size |= {model + "text.heads": heads}
    for steps in STEPS:
      length = {"dit.schedule.until": f"{steps} steps"}
      length["dit.optimizer.warmup"] = min(200, steps // 5)
      yield f"{width} wide, {steps} steps", size | length


def averaged(rows: Sequence[cells.Row]) -> Mapping[str, tuple[float, float]]:
  """Name -> (compute, error) of every point, the means over its seeds."""
  return {
    name: (cells.mean(own, "pflops"), cells.mean(own, ERROR))
    for name, own in cells.points(rows).items()
  }


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
  """Which (compute, error) no other one beats in both, by compute."""
  order = sorted(range(len(points)), key=lambda i: points[i])
  best, out = np.inf, []
  for i in order:
    if points[i][1] < best:
      best = points[i][1]
      out.append(i)
  return out


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
  """(a, b) of error = a compute^-b by least squares of the logarithms.

  Raises:
    ValueError: for fewer than three points.
  """
  if len(points) < 3:
    raise ValueError(f"{len(points)} points on the frontier: a fit needs 3")
  compute, error = np.log(np.array(points, float)).T
  slope, offset = np.polyfit(compute, error, 1)
  return float(np.exp(offset)), float(-slope)


def main(argv: list[str]) -> None:
  """Fits, plots, prints."""
  del argv
  about, rows = record.load("scaling")
  means = averaged(rows)
  names, points = [*means], [*means.values()]
  best = frontier(points)
  a, b = fit([points[i] for i in best])
  found = [
    {
      "point": names[i],
      "pflops": float(f"{points[i][0]:.4g}"),
      "error": round(points[i][1], 4),
      "fitted": round(a * points[i][0] ** -b, 4),
    }
    for i in best
  ]
  path = record.save(
    "scaling_fit", found, **about, a=round(a, 5), b=round(b, 4)
  )
  logs.say(
    f"{path}\n{logs.table(found)}\nerror = {a:.4g} C^-{b:.3f}, C in PFLOPs"
  )
  logs.say(f"{record.drawn(_figure(means, (a, b)), 'scaling_fit')}")


def _figure(means, law) -> Figure:
  figure = Figure(figsize=(6, 4), layout="constrained")
  axis = figure.add_subplot()
  for width in WIDTHS:
    own = [p for name, p in means.items() if name.startswith(f"{width} ")]
    axis.plot(*zip(*own), "o-", label=f"{width} wide")
  ends = np.array([end(means.values())[0] for end in (min, max)])
  label = f"{law[0]:.3g} C^-{law[1]:.3f}"
  axis.plot(ends, law[0] * ends ** -law[1], "k--", linewidth=1, label=label)
  axis.set(xscale="log", yscale="log")
  axis.set(xlabel="model FLOPs of training, 1e15", ylabel="denoising error")
  axis.legend()
  return figure


if __name__ == "__main__":
  app.run(main)
