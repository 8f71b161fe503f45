"""What has the demo learned of each set of the world, and out of it?

  python -m experiments.sweep experiments/demo.py

The transformer of experiments/results/demo makes videos of fresh captions of
each set, and of captions that hold out what training never shows: combinations
of attributes, sizes and speeds out of range, other wordings. What the oracle
reads back stands beside the real clips, the real clips through the autoencoder,
the same videos against shuffled captions, and videos of no caption. Asked for
is what each caption names: a third leave sizes and the background open.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import demo
from experiments import judging

READ = (
  "all",
  "count",
  "colour",
  "shape",
  "motion",
  "background",
  "binding",
)
ROWS = ("generated", "generated low", "generated high")
METRICS = tuple(
  f"captions/{who}/{name}"
  for who in (*ROWS, "real", "autoencoder", "shuffled", "empty", "p-value")
  for name in READ
)
# All but `sound`, whose pictures are of the kind of `motion`.
SETS = tuple(dict.fromkeys(name for name, *_ in demo.PARTS if name != "sound"))
HELD_OUT = ("test_combinations", "test_parameters", "test_paraphrases")


def base() -> ConfigDict:
  """Captions of the set `composition`."""
  c = demo.get_config("composition")
  with c.unlocked():
    # Words that the tokenizer has not seen become more tokens.
    c.text.max_tokens = c.dit.rows.text = 96
  return judging.only(c, captions={"clips": 48, "empty": 12})


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for name in SETS:
    yield name, {"data.set": name}
  for split in HELD_OUT:
    yield f"composition {split}", {"evaluation.split": split}
