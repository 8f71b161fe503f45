"""Does an edit change what it should, and leave the rest as it was?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.data.world.edits import edited
from sora_jax.evaluators import metrics
from sora_jax.evaluators.captions import world
from sora_jax.evaluators.context import Context, through, trained, truth
from sora_jax.sampling.request import Request
from sora_jax.types import Clip, State

# The attributes that say whether an edit was obeyed, and nothing else undone:
# who is there, and what about it or around it.
ASKED = {
  "recolour": ("count", "colour", "shape"),
  "remove": ("count", "colour", "shape"),
  "background": ("count", "background"),
}


@dataclasses.dataclass(frozen=True)
class Edits:
  """The task `edit` on clips of the world, whose edits have a known answer.

  For each edit and video: `obeyed`, the share of edits of whose answer the
  oracle reads back the attributes of ASKED; `changed`, PSNR in dB against
  the answer over the pixels that the edit is about; `rest`, over all others.
  Videos: what the model makes, with 95 % bootstrap intervals, the source itself
  (the dumb answer: nothing is done), and the answer through the autoencoder
  (the ceiling). Clips that an edit has nothing to change in are passed over;
  "clips" is how many are left.

  Attributes:
    context: with clips of the source "world" and a pipeline.
    edits: keys of ASKED.
    strength: noise level in (0, 1] that the source is taken back to.
    clips: how many to draw from; 0 for all.
    seed: of the noise and of the edits.
  """

  context: Context
  edits: tuple[str, ...]
  strength: float
  clips: int
  seed: int

  def __post_init__(self):
    if wrong := set(self.edits) - set(ASKED):
      raise ValueError(f"edits {sorted(wrong)}: choose of {sorted(ASKED)}")
    if not 0 < self.strength <= 1:
      raise ValueError(
        f"edits(strength={self.strength}): a noise level in (0, 1]"
      )

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    found = {name: list(self._pairs(name)) for name in self.edits}
    if not any(found.values()):
      raise ValueError(
        f"edits={self.edits} find nothing to change in these clips: they are "
        "of several shots, or of digits; take another data.set, or more clips"
      )
    for name, pairs in found.items():
      if not pairs:
        continue
      yield f"{name}/clips", float(len(pairs))
      sources = [source.video for source, _ in pairs]
      answers = [answer for _, answer in pairs]
      videos = {
        "generated": self._made(state, sources, answers),
        "source": sources,
        "autoencoder": through(self.context, state, [a.video for a in answers]),
      }
      for who, made in videos.items():
        for what, values in _judged(name, made, sources, answers).items():
          yield f"{name}/{who}/{what}", float(np.mean(values))
          if who == "generated":
            low, high = metrics.bootstrap(values)
            yield f"{name}/generated low/{what}", low
            yield f"{name}/generated high/{what}", high

  def _pairs(self, name: str) -> Iterator[tuple[Clip, Clip]]:
    """Clips and what they should become."""
    for i, clip in enumerate(self.context.first(self.clips)):
      truth(clip)  # or an error that says what is missing
      answer = edited(clip, name, self.seed + i)
      if answer is not None and (answer.video != clip.video).any():
        yield clip, answer

  def _made(
    self, state: State, sources: Sequence[np.ndarray], answers: Sequence[Clip]
  ) -> list[np.ndarray]:
    requests = [
      Request(
        answer.text,
        source.shape[:3],
        "edit",
        source=source,
        strength=self.strength,
        seed=self.seed + i,
      )
      for i, (source, answer) in enumerate(zip(sources, answers, strict=True))
    ]
    return self.context.pipeline(trained(state), state.frozen, requests)


def _judged(
  name: str,
  made: Sequence[np.ndarray],
  sources: Sequence[np.ndarray],
  answers: Sequence[Clip],
) -> dict[str, np.ndarray]:
  """[N] of each measure; a clip without a part has no number for it."""
  found: dict[str, list[float]] = {"obeyed": [], "changed": [], "rest": []}
  for video, source, answer in zip(made, sources, answers, strict=True):
    changed = (source != answer.video).any(axis=-1)
    read = world(video, answer.fps)(answer)
    obeyed = all(a in read and read[a] == 1 for a in ASKED[name])
    found["obeyed"].append(float(obeyed))
    for what, region in (("changed", changed), ("rest", ~changed)):
      if region.any():
        found[what].append(metrics.region_psnr(video, answer.video, region))
  return {what: np.array(values) for what, values in found.items() if values}
