"""Do images help a model of video, at the same cost?

  python -m experiments.sweep experiments/joint.py --seeds=3

The quickstart's transformer on rows of as many tokens, for as many steps, which
hold videos alone, or images beside them: none, a quarter and a half of all
clips. An image is a clip of one frame, whose caption names no motion. Each has
an autoencoder of what it sees, whose own share of captions stands beside. All
are judged by videos of held-out captions.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance

METRICS = guidance.WITH_CEILING
VIDEOS = 30_000


def _mixture(share: float) -> dict[str, object]:
  """Data of which so many clips are images."""
  # Images stand among a test split's clips evenly: one of them is behind the
  # first 512 of twice as many, which are more than are judged.
  more = {"count": VIDEOS, "test_count": 1024}
  video = guidance.base().data.to_dict() | more
  parts = {"video": video}
  if share:
    images = round(VIDEOS * share / (1 - share))
    image = {"frames": 1, "count": images, "test_count": 1}
    # Another seed, or they were the videos' digits again.
    parts["image"] = video | image | {"seed": video["seed"] + 1}
  return {"name": "mixture", "frames": 9, "parts": parts, "repeat": {}}


def base() -> ConfigDict:
  """The quickstart with rows that hold a video, or two images."""
  c = guidance.base()
  with c.unlocked():
    c.data = _mixture(0)
    # Enough bins for an image to find another one.
    c.dit.rows.update(text=24, clips=2, bins=16)
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for name, share in (
    ("videos alone", 0),
    ("a quarter images", 0.25),
    ("half images", 0.5),
  ):
    yield name, {"data": ConfigDict(_mixture(share))}
