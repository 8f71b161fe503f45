"""What a long video loses is what drift says that it loses."""

import dataclasses

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.evaluators import drift
from sora_jax.evaluators.context import Context

AT = (0.0, 4.0, 8.0)
FRAMES = 9  # of a window: two seconds and a bit
OPTIONS = {"keep": 2, "context_noise": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def clips():
  source = World("simple", 1, FRAMES, 64, 64, fps=4.0, seed=0, test_count=40)
  return list(source.clips("test"))


@dataclasses.dataclass(frozen=True)
class Codec:
  """As much of an autoencoder as the counting of its passes needs."""

  compression = (4, 8, 8)
  model = property(lambda self: self)


def judged(monkeypatch, clips, fading, passes=None, wander=0):
  """Scores of clips shown again and again, each window by `fading` darker.

  In later windows things move `wander` pixels a frame to the right.
  """

  class Shown:
    def __init__(self, pipeline, context, anchor):
      pass

    def __call__(self, params, frozen, requests, frames):
      of_text = {clip.text: clip.video for clip in clips}
      for begin in range(0, frames, 4):  # in pieces that are not windows
        for i, request in enumerate(requests):
          video = of_text[request.prompt]
          at = np.arange(begin, min(begin + 4, frames))
          share = (1 - fading) ** (at // FRAMES)
          part = video[at % FRAMES] * share[:, None, None, None]
          for k in range(len(at)):
            moved = wander * (at[k] % FRAMES) * (at[k] >= FRAMES)
            part[k] = np.roll(part[k], moved, axis=1)
          yield i, part.astype(np.uint8)

  def through(context, state, videos):
    if passes is not None:
      passes.append(len(videos))
    return videos

  monkeypatch.setattr(drift, "Rollout", Shown)
  monkeypatch.setattr(drift, "through", through)
  monkeypatch.setattr(drift, "trained", lambda state: None)
  context = Context("dit", None, None, Codec(), clips)
  rollout = {"context": "frames", "anchor": False}
  judge = drift.Drift(context, 0, AT, rollout, **OPTIONS)

  class State:
    frozen = None

  return dict(judge.run(State))


def test_what_stays_as_it_is_does_not_drift(monkeypatch, clips):
  found = judged(monkeypatch, clips, fading=0.0)
  for row in ("0 s", "4 s", "8 s", "real", "re-encoded 8 s"):
    assert found[f"{row}/colour"] == 0
    assert found[f"{row}/contrast"] == pytest.approx(1)
    assert found[f"{row}/sharpness"] == pytest.approx(1)
    assert found[f"{row}/background"] == found[f"{row}/motion"] == 1
    assert found[f"{row}/identity"] >= 0.95
  for measure in drift.MEASURES:
    assert found[f"slope per s/{measure}"] == pytest.approx(0, abs=1e-12)
  assert 4 < found["slope per s/clips"] < len(clips)


def test_what_fades_loses_contrast_at_its_rate(monkeypatch, clips):
  found = judged(monkeypatch, clips, fading=0.2)
  # Windows of 9 frames begin at 0, 2.25, 4.5 and 6.75 s.
  for row, windows in (("0 s", 0), ("4 s", 1), ("8 s", 3)):
    assert found[f"{row}/contrast"] == pytest.approx(0.8**windows, abs=0.03)
  fading = np.polyfit(2.25 * np.arange(4), 0.8 ** np.arange(4), 1)[0]
  assert found["slope per s/contrast"] == pytest.approx(fading, abs=0.01)
  assert found["8 s/colour"] > found["4 s/colour"] > 0
  assert found["8 s/identity"] < found["0 s/identity"]


def test_what_wanders_off_no_longer_rests(monkeypatch, clips):
  found = judged(monkeypatch, clips, fading=0.0, wander=2)
  assert found["0 s/motion"] == 1
  assert found["8 s/motion"] < 0.5
  assert found["slope per s/motion"] < 0


def test_clips_of_which_nothing_stays_are_said_to_be_so(monkeypatch, capsys):
  moving = World("motion", 1, FRAMES, 64, 64, fps=4.0, seed=0, test_count=4)
  assert judged(monkeypatch, list(moving.clips("test")), fading=0.0) == {}
  assert "drift: nothing is judged" in capsys.readouterr().out


def test_the_autoencoder_is_passed_as_often_as_what_is_handed_on(
  monkeypatch, clips
):
  passes = []
  judged(monkeypatch, clips, fading=0.0, passes=passes)
  # Blocks of 9 frames, of which 5 are handed on: frame 27 lies in the sixth.
  assert len(passes) == 1 + 5
  # The second block begins where the first one ends.
  count = drift.Drift(
    Context("dit", None, None, Codec(), []),
    0,
    AT,
    {"context": "frames", "anchor": False},
    **OPTIONS,
  )._handed_on
  handed = [count(frame, FRAMES) for frame in (0, 8, 9, 12, 13, 17)]
  assert handed == [0, 0, 1, 1, 2, 3]


def test_windows_of_pieces():
  parts = [(0, np.arange(5)), (1, np.arange(2)), (0, np.arange(5, 9))]
  found = [(i, w.tolist()) for i, w in drift.windows(parts, 3)]
  assert found == [(0, [0, 1, 2]), (0, [3, 4, 5]), (0, [6, 7, 8])]


def test_times_before_the_beginning(clips):
  with pytest.raises(ValueError, match="at least 0"):
    drift.Drift(None, 0, (-1.0,), {}, **OPTIONS)
  with pytest.raises(ValueError, match="ascending"):
    drift.Drift(None, 0, (4.0, 0.0), {}, **OPTIONS)
  with pytest.raises(ValueError, match=r"drift.rollout: unknown \['ancho'\]"):
    wrong = {"context": "frames", "ancho": False}
    drift.Drift(None, 0, AT, wrong, **OPTIONS)
  with pytest.raises(ValueError, match="choose one of"):
    wrong = {"context": "words", "anchor": False}
    drift.Drift(None, 0, AT, wrong, **OPTIONS)
