"""How fast does a long video decay, and which remedy helps?

  python -m experiments.sweep experiments/drift.py

The transformer of experiments/results/demo makes a minute of video, block after
block of two seconds, of captions whose things stay where they are: handing on
frames (encoded anew each time) or latents, with the first frame as an anchor,
or with some noise on what is known; guided as the demo is, in twenty steps for
each of some forty blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import demo
from experiments import judging
from sora_jax.evaluators.drift import MEASURES

AT = (0.0, 10.0, 30.0, 58.0)  # seconds
ROWS = (
  *(f"{at:g} s" for at in AT),
  *(f"slope per s{end}" for end in ("", " low", " high")),
  "real",
  "re-encoded 0 s",
)
METRICS = (
  *(f"drift/{row}/{m}" for m in MEASURES for row in ROWS),
  "drift/slope per s/clips",
)


def figure(rows: Sequence[Mapping[str, object]]) -> Figure:
  """Every measure of every point, second by second."""
  drawn = Figure(figsize=(8, 5), layout="constrained")
  for k, measure in enumerate(MEASURES):
    axis = drawn.add_subplot(2, 3, k + 1, title=measure, xlabel="seconds")
    for row in rows:
      values = [float(row[f"drift/{at:g} s/{measure}"]) for at in AT]
      axis.plot(AT, values, "o-", markersize=3, label=row["point"])
    # Of shares and of what is relative, small changes should look small.
    axis.set_ylim(bottom=0)
  drawn.legend(*axis.get_legend_handles_labels(), loc="outside lower center")
  return drawn


def base() -> ConfigDict:
  """Frames are handed on, nothing else is done."""
  c = demo.get_config("simple")
  with c.unlocked():
    c.sample.steps = 20
  return judging.only(c, drift={"clips": 36, "at": AT})


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  rollout, noise = "dit.evaluators.drift.rollout", "dit.evaluators.drift"
  yield "frames", {}
  yield "latents", {f"{rollout}.context": "latents"}
  yield "frames, anchor", {f"{rollout}.anchor": True}
  yield "frames, noise 0.1", {f"{noise}.context_noise": 0.1}
