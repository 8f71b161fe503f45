"""How much noise does an edit need, and what does it cost the rest?

  python -m experiments.sweep experiments/edits.py

The transformer of experiments/results/demo changes clips of the set
`composition` after the caption of a scene that differs in one thing (SDEdit):
another colour of a body, a body less, another background; guided as the demo
is. The more noise a clip is taken back to, the freer the model is to obey, and
the less is left of what should stay. Beside what it makes stand the clip itself
(nothing is done) and the right answer through the autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import demo, world
from experiments import judging, record

EDITS = tuple(world.get_config().dit.evaluators.edits.edits)
WHO = ("generated", "source", "autoencoder")
WHAT = ("obeyed", "changed", "rest")
METRICS = (
  *(f"edits/{e}/{who}/{what}" for e in EDITS for who in WHO for what in WHAT),
  *(
    f"edits/{e}/generated {end}/{what}"
    for e in EDITS
    for end in record.ENDS
    for what in WHAT
  ),
  *(f"edits/{e}/clips" for e in EDITS),
)


def base() -> ConfigDict:
  """Edits of clips of the set `composition`."""
  return judging.only(demo.get_config("composition"), edits={"clips": 20})


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for strength in (0.6, 0.8, 0.9):
    yield f"strength {strength:g}", {"dit.evaluators.edits.strength": strength}
