"""Do native sizes keep things in the picture, where square crops cut them off?

  python -m experiments.sweep experiments/framing.py --seeds=3

Sora's report compares a model trained on videos of their own sizes with one
trained on square crops of them, which shows its subjects partly out of view.
Here digits move over wide, tall and square frames. One model sees them as they
are, packed in common rows; the other sees random crops of 24 x 24 pixels, the
most that fits into all. Both take as many steps on rows of as many tokens, each
with an autoencoder of what it sees. They then make videos of held-out captions:
in the three native sizes, where the second one is beyond what it has seen, and
in its own size. Counted is how often a frame's edge cuts a digit; real ones
never do.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance

SIZES = {"wide": (9, 24, 48), "tall": (9, 48, 24), "square": (9, 32, 32)}
SMALL = (9, 24, 24)
CROP = {"name": "crop", "frames": 9, "height": 24, "width": 24, "zoom": 1.0}
SIDES = ("generated", "generated low", "generated high", "real", "autoencoder")
METRICS = (*(f"framing/{side}/cut" for side in SIDES), *guidance.CAPTIONS)


def base() -> ConfigDict:
  """The quickstart on frames of three shapes, several clips to a row."""
  c = guidance.mixed(SIZES, tests=86)
  with c.unlocked():
    c.tokens = 18  # of 8 x 8 pixels: nothing is scaled
    # Of two latent frames: four clips of 36 tokens, or eight crops of 18.
    c.dit.rows.update(rows=8, length=144, text=96, clips=8, bins=8)
    c.dit.model.attention = "blocks"
    framing = {"name": "framing", "clips": 256, "seed": 0, "size": ()}
    c.dit.evaluators.framing = framing
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  cropped = {"transforms": (CROP,), "autoencoder.size": SMALL}
  yield "native sizes", {}
  yield "square crops", cropped
  small = {"dit.evaluators.framing.size": SMALL}
  yield "native sizes, small squares", small
  yield "square crops, small squares", cropped | small
