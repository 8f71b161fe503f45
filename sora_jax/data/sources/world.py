"""The captioned physics world as a data source: endless, exact, on no disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sora_jax.data.sources import digits
from sora_jax.data.sources.generated import Generated, GeneratedClips
from sora_jax.data.world import camera, captions, moments, render, scenes, sets
from sora_jax.data.world import sound as sound_lib
from sora_jax.data.world.nouns import Event, Shot, State, merged, stage
from sora_jax.types import Clip

MIN_SIDE = 8


@dataclasses.dataclass(frozen=True)
class World(Generated):
  """A `types.Source` of scenes with their ground truth in `Clip.state`.

  Every clip is a pure function of the arguments, the split and the index. The
  scene depends on the frame's aspect ratio and on the clip's duration,
  (frames - 1) / fps, and not on its size or frame rate: 17 frames at 8/s show
  at 64 x 64 what 33 frames at 16/s show at 128 x 128.

  Attributes:
    set: key of world.sets.SETS.
    count: clips in the split "train", >= 1.
    frames: T, >= 1; one frame is an image, whose caption names no motion.
    height: H in pixels, >= 8.
    width: W in pixels, >= 8.
    fps: frames per second, > 0.
    seed: >= 0; another seed gives other clips.
    length: of captions: one of captions.LENGTHS, or "mixed".
    channels: of sound: 0 (none), 1 or 2.
    rate: samples per second of the sound.
    test_count: clips in each of the other splits.
  """

  set: str
  count: int
  frames: int
  height: int
  width: int
  fps: float
  seed: int
  length: str = "mixed"
  channels: int = 0
  rate: int = 16_000
  test_count: int = 256

  splits = sets.SPLITS
  min_side = MIN_SIDE

  def __post_init__(self):
    super().__post_init__()
    if self.rate < 1:
      raise ValueError(f"World(rate={self.rate}): rate must be >= 1.")
    for name, valid in (
      ("set", tuple(sets.SETS)),
      ("length", (*captions.LENGTHS, "mixed")),
      ("channels", (0, 1, 2)),
    ):
      if getattr(self, name) not in valid:
        raise ValueError(
          f"World({name}={getattr(self, name)!r}): choose one of {valid}"
        )
    scenes.check(self.draw("train"))  # the impossible is noticed now

  def draw(self, split: str) -> scenes.Draw:
    """What scenes of a split are drawn for."""
    return scenes.Draw(
      name=self.set,
      split=split,
      stage=stage(self.height, self.width),
      seconds=(self.frames - 1) / self.fps,
    )

  def clips(self, split: str) -> WorldClips:
    """The split's clips; ValueError for a split that does not exist."""
    return WorldClips(self, split)


class WorldClips(GeneratedClips):
  """The clips of one split."""

  def __getitem__(self, index: int) -> Clip:
    config = self.config
    shots = self.shots(index)
    times = np.arange(config.frames) / config.fps
    state = ground_truth(shots, times, config.height, config.width)
    video = self._draw(shots, state.start, times)
    if len(shots) == 1:
      text = shots[0].text
    else:
      text = tuple((int(n), s.text) for n, s in zip(state.start, shots))
    return Clip(
      video=video,
      fps=config.fps,
      text=text,
      key=f"world/{config.set}/{self.split}/{self.check(index):06d}",
      audio=self._sound(index, shots, state) if config.channels else None,
      rate=config.rate if config.channels else 0,
      state=state,
    )

  def shots(self, index: int) -> tuple[Shot, ...]:
    """What clip `index` shows, without drawing it."""
    config, rng = self.config, self.rng(self.check(index))
    length = captions.LENGTHS[rng.integers(len(captions.LENGTHS))]
    if config.length != "mixed":
      length = config.length
    draw = config.draw(self.split)
    return scenes.shots(rng, draw, length, config.channels > 0)

  def _draw(self, shots, start, times) -> np.ndarray:
    config = self.config
    parts = []
    for shot, own in zip(shots, np.split(times, start[1:])):
      glyphs = None
      if any(body.shape == "digit" for body in shot.scene.bodies):
        glyphs = digits.glyphs(config.draw(self.split).handwriting)[0]
      parts.append(
        render.render(
          shot.scene, own - shot.start, config.height, config.width, glyphs
        )
      )
    return np.concatenate(parts)

  def _sound(self, index: int, shots, state: State) -> np.ndarray:
    config = self.config
    impacts = []
    for shot in shots:
      impacts += sound_lib.impacts_of(_moved(shot), shot.scene.bodies)
    return sound_lib.synthesize(
      impacts,
      config.frames / config.fps,
      shots[0].scene.background.kind,
      stage(config.height, config.width)[1],
      rate=config.rate,
      channels=config.channels,
      seed=self.seed(index),
    )


def _moved(shot: Shot) -> tuple[Event, ...]:
  """A shot's events, in the clip's time."""
  return tuple(
    dataclasses.replace(e, time=e.time + shot.start) for e in shot.scene.events
  )


def ground_truth(
  shots: Sequence[Shot], times: np.ndarray, height: int, width: int
) -> State:
  """The state of a clip at `times` [T], seconds."""
  # A frame on a cut shows the new shot; the margin is for rounded times.
  starts = np.array([shot.start for shot in shots])
  start = np.searchsorted(times, starts - 1e-9)
  most = max(len(shot.scene.bodies) for shot in shots)
  shape = (len(times), most)
  out = {
    "position": np.full((*shape, 2), np.nan),
    "velocity": np.full((*shape, 2), np.nan),
    "radius": np.full(shape, np.nan),
    "angle": np.full(shape, np.nan),
    "centre": np.empty((len(times), 2)),
    "zoom": np.empty(len(times)),
    "pixels": np.full((*shape, 2), np.nan),
  }
  ends = (*start[1:], len(times))
  for shot, first, last in zip(shots, start, ends):
    part, own = slice(first, last), times[first:last] - shot.start
    scene = shot.scene
    centre, zoom = camera.view(scene.camera, scene, own)
    out["centre"][part], out["zoom"][part] = centre, zoom
    for i, body in enumerate(scene.bodies):
      place, velocity = body.path.at(own)
      out["position"][part, i], out["velocity"][part, i] = place, velocity
      out["radius"][part, i] = moments.radius(body, own, scene.seconds)
      out["angle"][part, i] = moments.angle(body, own)
      out["pixels"][part, i] = camera.to_pixels(
        place, centre, zoom, height, width
      )
  events = merged([e for shot in shots for e in _moved(shot)])
  return State(shots=tuple(shots), start=start, events=events, **out)
