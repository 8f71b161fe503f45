"""What do the eight minutes of the quickstart teach?

  python -m experiments.sweep experiments/quickstart.py --seeds=3

The quickstart as it is. What the oracle reads back of 256 fresh captions stands
beside the same of real clips, of these through the autoencoder, and of what was
generated against other captions and from the empty one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance

ROWS = ("real", "autoencoder", "generated", "shuffled", "empty", "chance")
ATTRIBUTES = ("digit", "colour", "motion", "background")
METRICS = (
  "captions/generated/all",
  *(f"captions/{row}/{name}" for row in ROWS for name in ATTRIBUTES),
  *(f"captions/p-value/{name}" for name in ATTRIBUTES),
  *(f"frechet/{row}/distance" for row in ("real", "autoencoder", "generated")),
)


def base() -> ConfigDict:
  """The quickstart, judged by captions and Fréchet distance."""
  c = guidance.base()
  with c.unlocked():
    c.dit.evaluators.captions.empty = 64
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """The one point."""
  yield "quickstart", {}
