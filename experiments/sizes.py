"""Does the demo make videos of sizes and lengths that it never saw?

  python -m experiments.sweep experiments/sizes.py

The transformer of experiments/results/demo saw the set `composition` in 64 x 64
and 48 x 80 pixels, `motion` in 80 x 48, and no clip longer than 17 frames. Here
are frames of other shapes, with up to 1.5 times as many tokens, and a clip of
twice the length. What the oracle reads back stands beside the ceiling of the
autoencoder, which was trained on 64 x 64 pixels alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import demo

METRICS = demo.METRICS
# Frames, height, width.
SIZES = {
  "seen": (17, 64, 64),
  "seen, wide": (17, 48, 80),
  "portrait": (17, 80, 48),
  "wider": (17, 48, 96),
  "larger": (17, 80, 80),
  "half as long": (9, 64, 64),
  "twice as long": (33, 64, 64),
}


def base() -> ConfigDict:
  """Captions of the set `composition`."""
  return demo.base()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  row = base().dit.rows.length
  for name, (frames, height, width) in SIZES.items():
    size = {"frames": frames, "height": height, "width": width}
    changes = {f"data.{key}": value for key, value in size.items()}
    # A token is one latent cell: four frames of 8 x 8 pixels.
    tokens, latent = height * width // 64, (frames - 1) // 4 + 1
    changes |= {"tokens": tokens, "dit.frames": latent}
    yield name, changes | {"dit.rows.length": max(row, tokens * latent)}
