"""Cuts are found where they are and nowhere else."""

import functools

import numpy as np
import pytest

from sora_jax.data.sources import world
from sora_jax.data.world import render, sets
from sora_jax.data.world.nouns import Background, Camera, Scene
from sora_jax.evaluators.oracle import cuts
from tests.evaluators.oracle import corruptions

GROUNDS = [
  ("plain", (16, 16)),
  ("plain", (128, 128)),
  ("plain", (236, 236)),
  ("gradient", (103, 153)),
  ("checker", (103, 153)),
  ("textured", (103, 153)),
  ("checker", (60, 110)),
  ("textured", (60, 110)),
  ("gradient", (60, 110)),
  ("checker", (110, 160)),
  ("textured", (110, 160)),
  ("gradient", (110, 160)),
]


@functools.cache
def clips(name, side, count):
  frames = 33 if name == "shots" else 17  # a second for each shot
  source = world.World(name, 1, frames, side, side, 8.0, 0).clips("test")
  return [source[k] for k in range(count)]


def part(ground, camera, seed, side=32):
  scene = Scene("rest", (), Background(*ground, seed), camera, 2.0)
  return render.render(scene, np.arange(4) / 8, side, side)


@pytest.mark.parametrize("side, count", [(64, 2), (32, 5)])
@pytest.mark.parametrize("name", list(sets.SETS))
def test_reads_the_cuts_of_real_renders(name, side, count):
  for clip in clips(name, side, count):
    truth = tuple(clip.state.start[1:])
    assert cuts.cuts(clip.video) == truth
    if side == 32:
      dirty = corruptions.blurred_and_noisy(clip.video, 0.5)
      assert cuts.cuts(dirty) == truth


@pytest.mark.parametrize("seed", [0, 1])
def test_any_two_backgrounds_of_other_kind_or_tone_are_cut(seed):
  parts = [part(ground, Camera(), seed) for ground in GROUNDS]
  for i, a in enumerate(parts):
    for j, b in enumerate(parts):
      (kind, tones), (other, others) = GROUNDS[i], GROUNDS[j]
      if kind == other and abs(tones[0] - others[0]) < 50:
        continue
      assert cuts.cuts(np.concatenate([a, b])) == (4,), (i, j)


@pytest.mark.parametrize(
  "camera",
  [
    Camera("pan", velocity=(0.0, 2.0)),
    Camera("follow", velocity=(-4.0, 0.0)),
    Camera("zoom", rate=1.35),
    Camera("zoom", rate=1 / 1.35),
    Camera("shake", shake=0.3, phase=(1.0, 4.0)),
  ],
)
@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_cameras_cut_nothing(kind, camera):
  for side in (32, 64):
    video = part((kind, (80, 130)), camera, 5, side)
    assert cuts.changes(video).max() < 0.6 * cuts.SHARE


def test_moved_cuts_are_read_where_they_are():
  for clip in clips("shots", 32, 5):
    first = int(clip.state.start[1])
    for by in (-1, 1):
      spoilt = corruptions.cut_moved(clip.video, first, by)
      assert cuts.cuts(spoilt)[0] == first + by


def test_shuffled_shots_have_more_cuts():
  for clip in clips("shots", 32, 4):
    spoilt = corruptions.shuffled(clip.video)
    assert cuts.cuts(spoilt) != tuple(clip.state.start[1:])


def test_one_colour_all_over_is_read_by_its_brightness():
  video = np.zeros((6, 32, 32, 3), np.uint8)
  video[:3], video[3:] = (230, 30, 30), (30, 210, 220)
  assert cuts.cuts(video) == (3,)
  assert cuts.cuts(video[:1]) == ()
