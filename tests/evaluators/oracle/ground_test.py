"""The background is read from its neutral pixels, whatever stands before it."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.data.sources import world
from sora_jax.data.world import captions, render, sets
from sora_jax.data.world.nouns import Background, Camera, Scene, Wall
from sora_jax.evaluators.oracle import ground
from tests.evaluators.oracle import corruptions


@functools.cache
def shots(name, side, count=8):
  """(video of a shot, its scene) of the first test clips of a set."""
  frames = 33 if name == "shots" else 17  # a second for each shot
  source = world.World(name, 1, frames, side, side, 8.0, 0).clips("test")
  found = []
  for k in range(count):
    clip = source[k]
    ends = (*clip.state.start[1:], len(clip.video))
    for shot, first, last in zip(clip.state.shots, clip.state.start, ends):
      found.append((clip.video[first:last], shot.scene))
  return found


def picture(kind, tones, camera=None, walls=(), side=64, frames=5, seed=3):
  """A video [T, side, side, 3] without bodies."""
  scene = Scene(
    motion="rest",
    bodies=(),
    background=Background(kind, tones, seed),
    camera=camera or Camera(),
    seconds=2.0,
    walls=walls,
  )
  return render.render(scene, np.arange(frames) / 8, side, side)


@pytest.mark.parametrize("side", [64, 32])
@pytest.mark.parametrize("name", list(sets.SETS))
def test_reads_the_kind_of_real_renders(name, side):
  count = 6 if side == 32 else 3
  for video, scene in shots(name, side, count):
    assert ground.read(video).kind == captions.background(scene)


@pytest.mark.parametrize("name", ["phenomena", "composition"])
def test_reads_the_kind_of_blurred_and_noisy_video(name):
  for video, scene in shots(name, 32):
    dirty = corruptions.blurred_and_noisy(video, 0.5)
    assert ground.read(dirty).kind == captions.background(scene)


@pytest.mark.parametrize("rate", [0.7, 1.5])
@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_any_zoom(kind, rate):
  # At 8 frames/s the ninth frame has the zoom `rate`.
  zoomed = picture(kind, (80, 130), Camera("zoom", rate=rate), frames=9)[-1:]
  assert ground.read(zoomed).kind == kind


@pytest.mark.parametrize("tone", [60, 85, 90, 95, 130])
@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_a_background_may_have_the_tone_of_walls(kind, tone):
  assert ground.read(picture(kind, (tone, tone + 50))).kind == kind
  if tone >= 90:
    assert ground.read(picture(kind, (tone - 50, tone))).kind == kind


@pytest.mark.parametrize("tone, word", [(16, "black"), (236, "white")])
def test_walls_are_no_background(tone, word):
  walls = (Wall((0.0, 0.5), (5.0, 3.2), 90, front=True),)  # most of the frame
  assert ground.read(picture("plain", (tone, tone), walls=walls)).kind == word


def test_grey_is_what_is_there_and_continues_behind_bodies():
  for video, scene in shots("camera", 64, 4):
    bodies = ~ground.clean(video)
    grey = ground.read(video).grey
    assert grey.shape == video.shape[:3]
    assert np.array_equal(grey[~bodies], video.mean(-1)[~bodies].astype("f4"))
    low, high = scene.background.tones
    assert grey.min() > low - 6
    assert grey.max() < high + 6


def test_a_still_background_is_seen_where_a_body_was():
  """A body that moved away shows all of what it hid."""
  plain = picture("checker", (80, 130), frames=9)
  video = plain.copy()
  for t in range(9):
    video[t, 20:30, 5 + 6 * t : 15 + 6 * t] = (230, 30, 30)
  grey = ground.read(video).grey
  hidden = np.zeros(video.shape[:3], bool)
  hidden[4, 20:30, 29:39] = True
  assert np.abs(grey - plain[..., 0])[hidden].max() < 1


def test_what_no_world_shows_has_no_kind():
  rng = np.random.default_rng(0)
  noise = rng.integers(60, 120, (3, 32, 32, 1)).repeat(3, -1)
  assert ground.read(noise.astype(np.uint8)).kind == ""
  loud = ndimage.gaussian_filter(noise.astype(float), (0, 2, 2, 0))
  loud = np.clip((loud - loud.mean()) * 30 + 128, 0, 255)
  assert ground.read(loud.astype(np.uint8)).kind == ""
  red = np.full((3, 32, 32, 3), (230, 30, 30), np.uint8)
  assert ground.read(red).kind == ""
  assert ground.read(np.full((3, 32, 32, 3), 72, np.uint8)).kind == ""
