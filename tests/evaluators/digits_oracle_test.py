"""The oracle reads real renders right, and fails where it should fail."""

import dataclasses
import random

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.data.sources import digits
from sora_jax.evaluators import digits_oracle

SHAPES = [(9, 32, 32), (9, 64, 64)]
NAMES = ("digit", "colour", "motion", "background", "all", "debris")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def renders(frames=9, height=32, width=32, count=256):
  return list(
    digits.Digits(1, frames, height, width, 8.0, 5, count).clips("test")
  )


def table(clips, change=lambda video: video, captions=None):
  """Mean score by name over `clips`, each video passed through `change`."""
  oracle = digits_oracle.DigitsOracle(*clips[0].video.shape[1:3])
  captions = captions or [clip.text for clip in clips]
  scores = [
    oracle.score(change(clip.video), text)
    for clip, text in zip(clips, captions, strict=True)
  ]
  return {name: np.mean([s[name] for s in scores]) for name in NAMES}


@pytest.fixture(scope="module")
def clips():
  return renders()


@pytest.mark.parametrize("frames, height, width", SHAPES)
def test_reads_real_test_renders(frames, height, width, capsys):
  scores = table(renders(frames, height, width))
  row = "  ".join(f"{name} {scores[name]:.3f}" for name in NAMES)
  with capsys.disabled():
    print(f"\noracle on 256 real test clips {frames}x{height}x{width}: {row}")
  assert min(scores[name] for name in NAMES[:4]) > 0.97
  assert scores["debris"] < 0.01


@pytest.mark.parametrize("height, width", [(16, 16), (24, 40)])
def test_other_sizes(height, width):
  scores = table(renders(5, height, width, 128))
  assert min(scores[name] for name in NAMES[:4]) > 0.95


@pytest.mark.parametrize(
  "change",
  [
    lambda v: ndimage.gaussian_filter(v, (0, 1, 1, 0)),
    lambda v: np.clip(
      v + np.random.default_rng(0).normal(0, 14, v.shape), 0, 255
    ).astype(np.uint8),  # 25 dB
  ],
  ids=["blur", "noise"],
)
def test_survives_what_a_decoder_does(clips, change):
  scores = table(clips, change)
  assert min(scores[name] for name in NAMES[:4]) > 0.95
  assert scores["debris"] < 0.02


def test_darkening_keeps_the_colour():
  black = [c for c in renders() if "black" in c.text]
  scores = table(black, lambda v: v // 2)
  assert min(scores[name] for name in NAMES[:4]) > 0.95


def test_shuffled_captions_score_at_chance(clips):
  texts = [clip.text for clip in clips]
  scores = table(clips, captions=random.Random(0).sample(texts, len(texts)))
  chance = {"digit": 10, "colour": 6, "motion": 5, "background": 3}
  for name, choices in chance.items():
    assert scores[name] == pytest.approx(1 / choices, abs=0.08)
  assert scores["all"] < 0.02


def test_frozen_video_has_no_motion(clips):
  moving = [clip for clip in clips if "still" not in clip.text]
  scores = table(moving, lambda v: np.repeat(v[:1], len(v), axis=0))
  assert scores["motion"] == 0
  assert scores["digit"] > 0.95


def test_reversed_video_moves_the_other_way(clips):
  oracle = digits_oracle.DigitsOracle(32, 32)
  for clip in clips[:64]:
    truth = digits.parse(clip.text)
    motion = OPPOSITE.get(truth.motion, "still")
    assert oracle.read(clip.video[::-1]).motion == motion


@pytest.mark.parametrize(
  "order",
  [
    [0, 5, 2, 7, 4, 1, 6, 3, 8],
    [0, 0, 0, 0, 8, 8, 8, 8, 8],
    [0, 2, 4, 6, 8, 6, 4, 2, 0],
  ],
  ids=["shuffled", "one jump", "to and fro"],
)
def test_uneven_motion_is_no_motion(clips, order):
  moving = [clip for clip in clips if "still" not in clip.text]
  read = digits_oracle.DigitsOracle(32, 32).read
  assert {read(c.video[order]).motion for c in moving} == {"none"}


def test_rolled_channels_are_another_colour(clips):
  scores = table(clips, lambda v: np.roll(v, 1, axis=-1))
  assert scores["colour"] == 0
  assert min(scores["motion"], scores["background"]) > 0.97


def test_inverted_picture_has_another_background(clips):
  assert table(clips, lambda v: 255 - v)["background"] < 0.5


def test_mirrored_digits_are_misread(clips):
  asymmetric = [c for c in clips if digits.parse(c.text).digit in (2, 5, 7)]
  assert table(asymmetric, lambda v: v[:, :, ::-1])["digit"] < 0.7


def test_torn_and_extra_ink_is_debris(clips):
  def second_blob(video):
    video = video.copy()
    ink = np.roll(video, (16, 16), axis=(1, 2))
    other = np.abs(ink.astype(int) - video[0, 0, 0]).sum(-1) > 60
    video[other] = ink[other]
    return video

  def tear(video):
    """Moves the left half of the picture by a third of its height."""
    return np.concatenate(
      [np.roll(video[:, :, :16], 10, axis=1), video[:, :, 16:]], axis=2
    )

  still = [c for c in clips if "up" in c.text or "down" in c.text]
  whole = table(still)["debris"]
  assert table(still, second_blob)["debris"] > whole + 0.2
  assert table(still, tear)["debris"] > whole + 0.05


def test_nothing_to_see_is_nothing():
  oracle = digits_oracle.DigitsOracle(32, 32)
  blank = np.zeros((9, 32, 32, 3), np.uint8)
  seen = oracle.read(blank)
  assert dataclasses.astuple(seen) == (-1, "none", "none", "black")
  score = oracle.score(blank, "a red three stays still on a black background")
  assert score["all"] == score["motion"] == score["digit"] == 0


def test_one_flash_is_neither_still_nor_moving(clips):
  def flash(video):
    video = video.copy()
    video[1:] = video[0, 0, 0]
    return video

  assert table(clips, flash)["motion"] == 0


def test_gray_ink_has_no_colour(clips):
  black = [c for c in clips if "black" in c.text]
  gray = table(black, lambda v: v.max(-1, keepdims=True).repeat(3, -1))
  assert gray["colour"] == 0
  assert gray["digit"] > 0.95


def test_images_have_no_motion():
  oracle = digits_oracle.DigitsOracle(32, 32)
  scores = [oracle.score(c.video, c.text) for c in renders(1, count=64)]
  assert all("motion" not in score for score in scores)
  assert np.mean([score["all"] for score in scores]) > 0.95
  moving = "a red three moves left on a black background"
  assert oracle.score(renders(1, count=1)[0].video, moving)["motion"] == 0


@pytest.mark.parametrize(
  "video, named",
  [
    (np.zeros((9, 32, 33, 3), np.uint8), r"\(9, 32, 33, 3\)"),
    (np.zeros((0, 32, 32, 3), np.uint8), r"\(0, 32, 32, 3\)"),
    (np.zeros((9, 32, 32, 3), np.float32), "float32"),
  ],
)
def test_other_videos_are_refused(video, named):
  with pytest.raises(ValueError, match=named):
    digits_oracle.DigitsOracle(32, 32).read(video)


def test_sizes_below_the_source_are_refused():
  with pytest.raises(ValueError, match="height=8"):
    digits_oracle.DigitsOracle(8, 32)
