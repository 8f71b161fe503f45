"""How strong should guidance be, and where?

  python -m experiments.sweep experiments/guidance.py

The quickstart's model, sampled with classifier-free guidance of several scales,
at all noise levels and at the low half of them. All points share the one
transformer; what the oracle reads back of 256 fresh captions says what each is
worth, and the Fréchet distance how far videos of the first 128 are from real
ones (real ones from others: 0.44).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from configs import quickstart
from experiments import judging

READ = ("all", "colour", "motion", "background", "digit")
CAPTIONS = (
  "captions/generated/all",
  "captions/generated low/all",
  "captions/generated high/all",
  *(f"captions/generated/{name}" for name in READ[1:]),
  *(f"captions/shuffled/{name}" for name in READ),
)
METRICS = (
  *CAPTIONS,
  "frechet/generated/distance",
  "frechet/generated/low",
  "frechet/generated/high",
  "frechet/real/distance",  # the floor
  "frechet/autoencoder/distance",  # the ceiling
)

# Beside what captions the autoencoder keeps, where points have their own.
WITH_CEILING = (
  *METRICS,
  "captions/autoencoder/all",
  "captions/autoencoder/digit",
)


def base() -> ConfigDict:
  """The quickstart, judged by captions and Fréchet distance."""
  c = quickstart.get_config()
  return judging.only(c, captions={"empty": 2}, frechet={})


def mixed(sizes: Mapping[str, tuple[int, int, int]], tests: int) -> ConfigDict:
  """The quickstart on clips of several sizes, judged by captions.

  Args:
    sizes: name -> frames, height, width of a part of the data.
    tests: held-out clips of each.
  """
  c = base()
  one, count = c.data.to_dict(), c.data.count // len(sizes)
  parts = {}
  for i, (name, (frames, height, width)) in enumerate(sizes.items()):
    size = {"frames": frames, "height": height, "width": width}
    # Seeds of their own: the same one draws the same digits in every size.
    some = {"count": count, "test_count": tests, "seed": one["seed"] + i}
    parts[name] = one | size | some
  longest = max(frames for frames, *_ in sizes.values())
  data = {"name": "mixture", "frames": longest, "parts": parts, "repeat": {}}
  with c.unlocked():
    c.data = data
    del c.dit.evaluators["frechet"]
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  key = "sample.guidance"
  cfg = {"name": "cfg", "low": 0.0, "high": 1.0}
  for scale in (1.0, 1.5, 2.0, 3.0, 5.0):
    yield f"scale {scale:g}", {key: cfg | {"scale": scale}}
  for scale in (2.0, 5.0):
    low = cfg | {"scale": scale, "high": 0.5}
    yield f"scale {scale:g} below 0.5", {key: low}
