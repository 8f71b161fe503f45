"""The whole oracle: right on real renders, and wrong where it must be."""

import dataclasses
import functools

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.data.world import captions, edits, render, sets
from sora_jax.evaluators.oracle import laws as laws_lib
from sora_jax.evaluators.oracle import read, scores
from tests.evaluators.oracle import corruptions

CLIPS = 6


@functools.cache
def clips(name, side=64, count=CLIPS):
  source = World(
    set=name,
    count=1,
    test_count=count,
    frames=17,
    height=side,
    width=side,
    fps=8.0,
    seed=0,
  )
  return tuple(source.clips("test"))


def attributes(video, clip):
  return scores.attributes(read.read(video, clip.fps), clip.state)


def laws(video, clip, start=0):
  paths = laws_lib.followed(read.read(video, clip.fps), clip.state)
  return laws_lib.laws(paths, clip.state, clip.fps, start)


@pytest.mark.parametrize("side", [64, 32])
@pytest.mark.parametrize("name", sorted(sets.SETS))
def test_real_renders_are_read_right(name, side):
  table = [attributes(clip.video, clip) for clip in clips(name, side)]
  for key in sorted({key for row in table for key in row}):
    values = [row[key] for row in table if key in row]
    print(f"{name} {side} px {key}: {np.mean(values):.3f} of {len(values)}")
  for index, row in enumerate(table):
    unexplained = {k: row.pop(k) for k in scores.UNEXPLAINED if k in row}
    wrong = {k: v for k, v in row.items() if v < 1}
    assert not wrong, (index, wrong, clips(name, side)[index].text)
    assert all(v < 0.02 for v in unexplained.values()), unexplained


def test_other_clips_truth_scores_near_chance():
  found = clips("composition", count=12)
  rows = [
    scores.attributes(read.read(clip.video, clip.fps), other.state)
    for clip, other in zip(found, (*found[1:], found[0]), strict=True)
  ]
  for name in ("colour", "shape", "motion", "background"):
    mean = np.mean([row.get(name, 0.0) for row in rows])
    assert mean < 0.6, name
  assert np.mean([row["all"] for row in rows]) < 0.1


def moving(name="simple"):
  """A clip whose body moves."""
  return next(
    clip
    for clip in clips(name, count=12)
    if clip.state.shots[0].scene.motion == "uniform"
  )


def test_a_frozen_video_loses_its_motion():
  clip = moving()
  found = attributes(corruptions.frozen(clip.video), clip)
  assert found["motion"] == 0
  assert found["colour"] == found["shape"] == 1
  assert laws(corruptions.frozen(clip.video), clip)["velocity"] > 0.9


def test_a_doubled_speed_is_a_velocity_error():
  clip = moving()
  true = np.abs(clip.state.velocity).max()
  fast = laws(corruptions.doubled(clip.video), clip)["velocity"]
  assert fast > 0.4 * true
  assert laws(clip.video, clip)["velocity"] < 0.05


def test_shuffled_frames_follow_no_law():
  clip = moving()
  video = corruptions.shuffled(clip.video)
  assert attributes(video, clip)["motion"] == 0
  assert laws(video, clip)["position"] > 0.3


def test_swapped_colours_are_other_colours():
  clip = moving()
  found = attributes(corruptions.recoloured(clip.video), clip)
  assert found["colour"] == 0
  assert found["shape"] == found["motion"] == 1


def test_a_reversed_video_goes_the_other_way():
  clip = moving()
  found = attributes(clip.video[::-1], clip)
  assert found["direction"] == 0
  assert found["motion"] == found["speed"] == 1


def test_another_character_after_the_cut_is_noticed():
  one, other = clips("shots")[:2]
  start = int(one.state.start[1])
  colours = [
    s.shots[0].scene.bodies[0].colour for s in (one.state, other.state)
  ]
  assert colours[0] != colours[1] or (
    one.state.shots[0].scene.bodies[0].shape
    != other.state.shots[0].scene.bodies[0].shape
  )
  video = one.video.copy()
  video[start:] = other.video[-1]
  assert attributes(one.video, one)["identity"] == 1
  assert attributes(video, one)["identity"] < 1


@pytest.mark.parametrize("length", captions.LENGTHS)
def test_another_size_after_the_cut_is_wrong_where_captions_name_it(length):
  source = World("shots", 1, 17, 64, 64, 8.0, 0, test_count=8, length=length)
  clip = next(
    c
    for c in source.clips("test")
    if c.state.shots[0].scene.bodies[0].radius > 1
  )
  (_, *later), video = clip.state.shots, clip.video.copy()
  (_, *starts), times = clip.state.start, np.arange(len(video)) / clip.fps
  for shot, start in zip(later, starts, strict=True):
    (body,) = shot.scene.bodies
    small = dataclasses.replace(body, radius=body.radius / 1.5)
    scene = dataclasses.replace(shot.scene, bodies=(small,))
    video[start:] = render.render(scene, times[start:] - shot.start, 64, 64)
  reading = read.read(video, clip.fps)
  assert scores.attributes(reading, clip.state)["identity"] < 1
  asked = scores.attributes(reading, clip.state, said=True)
  assert (asked["identity"] == 1) == (length == "short")
  assert asked["all"] == float(length == "short")


@pytest.mark.parametrize("length", captions.LENGTHS)
def test_what_a_caption_leaves_open_may_be_anything(length):
  source = World("simple", 1, 9, 64, 64, 8.0, 0, test_count=4, length=length)
  for clip in source.clips("test"):
    (scene,) = (shot.scene for shot in clip.state.shots)
    video = edits.edited(clip, "background", seed=1).video
    reading = read.read(video, clip.fps)
    whole = scores.attributes(reading, clip.state)
    assert whole["background"] == whole["all"] == 0
    asked = scores.attributes(reading, clip.state, said=True)
    left = captions.unsaid(clip.state.shots[0].text, scene)
    assert asked.keys() == whole.keys() - left
    assert asked["all"] == float(length == "short")


@pytest.mark.parametrize("side", [48, 64])
def test_a_soft_star_is_no_digit(side):
  source = World("simple", 1, 9, side, side, 8.0, 0, test_count=40)
  found = [
    read.read(corruptions.blurred_and_noisy(c.video, 1.0, 2.0), c.fps)
    for c in source.clips("test")
    if c.state.shots[0].scene.bodies[0].shape == "star"
  ]
  assert len(found) > 4
  shapes = [r.shots[0].tracks[0].shape for r in found]
  assert shapes == ["star"] * len(found)


def test_no_wall_is_seen_around_a_body():
  for clip in clips("simple", count=12):
    (shot,) = read.read(clip.video, clip.fps).shots
    scene = clip.state.shots[0].scene
    plain = scene.background.kind == "plain"
    if plain:
      assert shot.ground.walls.any() == bool(scene.walls)
  hidden = (
    c for c in clips("phenomena", count=24) if c.state.shots[0].scene.walls
  )
  assert read.read(next(hidden).video, 8.0).shots[0].ground.walls.any()


def test_what_nothing_explains_is_never_ignored():
  clip = moving()
  assert attributes(clip.video, clip)["debris"] < 0.01
  rng = np.random.default_rng(0)
  flashing, staying = clip.video.copy(), clip.video.copy()
  for _ in range(12):
    y, x = rng.integers(0, 58, 2)
    flashing[::6, y : y + 4, x : x + 4] = (230, 30, 30)
  staying[:, 2:6, 2:6] = staying[:, 2:6, 57:61] = (230, 30, 30)
  assert attributes(flashing, clip)["debris"] > 0.05
  assert attributes(staying, clip)["count"] == 0


@pytest.mark.parametrize("name", ["simple", "composition"])
def test_seams_on_the_token_grid_are_stains(name):
  clip = next(
    c
    for c in clips(name, count=12)
    if c.state.shots[0].scene.background.kind in ("plain", "gradient")
  )
  seams = clip.video.astype(int)
  seams[:, ::8] += 12 - 24 * (seams[:, ::8] > 128)
  found = attributes(seams.astype(np.uint8), clip)
  assert found["stains"] == pytest.approx(1 / 8, abs=0.06)
  noise = corruptions.blurred_and_noisy(clip.video, 0.0, 6.0)
  assert attributes(noise, clip)["stains"] > 0.05
  assert attributes(clip.video, clip)["stains"] < 0.005
  # So spoilt that it is no background of the world any more.
  wild = corruptions.blurred_and_noisy(clip.video, 0.0, 60.0)
  assert attributes(wild, clip)["stains"] == 1


def test_seams_of_the_tone_of_walls_are_stains_too():
  clip = moving()
  seams = clip.video.copy()
  seams[:, :, ::8] = 92
  assert attributes(seams, clip)["stains"] > 0.08


@pytest.mark.parametrize(
  ("video", "message"),
  [
    (np.zeros((4, 16, 16), np.uint8), "shape"),
    (np.zeros((0, 16, 16, 3), np.uint8), "shape"),
    (np.zeros((4, 16, 16, 3)), "uint8"),
  ],
)
def test_what_is_no_video_says_so(video, message):
  with pytest.raises(ValueError, match=message):
    read.read(video, 8.0)


def test_an_empty_video_shows_nothing():
  clip = moving()
  found = attributes(np.full_like(clip.video, 128), clip)
  assert found["count"] == found["colour"] == found["motion"] == 0
