"""Tracks: of real renders, and of what goes wrong in generated ones."""

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.data.world import render
from sora_jax.data.world.nouns import (
  Background,
  Body,
  Camera,
  Path,
  Scene,
  Wall,
)
from sora_jax.evaluators.oracle import segment, track

TIMES = np.arange(9) / 8


def body(colour="red", shape="disc", at=(0.0, 0.0), to=(0.0, 0.0), **more):
  more = {"radius": 1.2, "material": "rubber"} | more
  return Body(shape=shape, colour=colour, path=Path.of(at, to), **more)


def shot(*bodies, walls=(), grains=(), tone=128, side=64, times=TIMES):
  scene = Scene(
    motion="rest",
    bodies=bodies,
    walls=walls,
    grains=grains,
    background=Background("plain", (tone, tone), 0),
    camera=Camera(),
    seconds=float(times[-1]),
  )
  return render.render(scene, times, side, side)


def names(video):
  return sorted((t.colour, t.shape) for t in track.tracks(video)[0])


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("material", ["rubber", "wood", "metal"])
def test_shape_place_and_size_are_exact(side, material):
  for shape in ("disc", "square", "triangle", "star"):
    one = body("cyan", shape, (-1.0, -2.0), (0.5, 2.0), material=material)
    (seen,), grains, _, debris = track.tracks(shot(one, side=side))
    assert (seen.colour, seen.shape, grains) == ("cyan", shape, 0)
    truth = (one.path.at(TIMES)[0] + 5) * side / 10
    np.testing.assert_allclose(seen.pixels, truth, atol=0.1)
    radius = np.sqrt(seen.area / np.pi) / side * 10
    np.testing.assert_allclose(radius, 1.2, rtol=0.02)
    assert debris.max() < 0.01


@pytest.mark.parametrize("side", [32, 64])
def test_two_of_one_colour_that_grow_apart_are_no_digit(side):
  """From the split "test" of composition, seed 11, clip 1."""
  box = body("green", "square", (2.3, -1.5), radius=1.4, growth=1.8)
  star = body("green", "star", (-1.4, -1.0), radius=1.3, growth=0.55)
  video = shot(box, star, side=side, times=np.arange(17) / 8)
  assert names(video) == [("green", "square"), ("green", "star")]


@pytest.mark.parametrize("material", ["rubber", "metal"])
@pytest.mark.parametrize("spin", [-1.2, 0.6])
@pytest.mark.parametrize("shape", ["square", "triangle", "star"])
def test_the_angle_is_followed_past_the_symmetry(shape, spin, material):
  one = body("blue", shape, spin=spin, material=material)
  (seen,), *_ = track.tracks(shot(one))
  np.testing.assert_allclose(seen.angle, spin * TIMES, atol=0.05)


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("pair", [("red", "green"), ("red", "blue")])
def test_a_seam_is_no_third_colour(pair, side):
  # Half a pixel of overlap blends the two hues all along the seam.
  left = body(pair[0], "square", (0.03, -1.0))
  right = body(pair[1], "square", (0.03, 1.1))
  video = shot(left, right, side=side)
  assert names(video) == sorted((c, "square") for c in pair)
  assert track.tracks(video)[3].max() < 0.02


def test_a_body_behind_a_wall_stays_one_and_is_marked():
  one = body("green", at=(0.0, -3.2), to=(0.0, 3.2))
  times = np.arange(17) / 8
  wall = Wall((0.0, 0.0), (6.0, 1.4), 90, front=True)
  (seen,), *_ = track.tracks(shot(one, walls=(wall,), times=times))
  assert len(seen.frames) < 17
  whole = np.isfinite(seen.area)
  assert 0 < whole.sum() < len(seen.frames)
  np.testing.assert_allclose(
    seen.area[whole], np.pi * (1.2 * 6.4) ** 2, rtol=0.08
  )


def test_two_of_one_colour_that_touch_stay_two():
  position = 1.14 + 3 * np.abs(TIMES - 0.5)  # of both, from the middle
  paths = [
    Path.through(TIMES, np.stack([0 * TIMES, s * position], 1)) for s in (-1, 1)
  ]
  bodies = (
    Body("disc", "red", 1.2, "rubber", paths[0]),
    Body("square", "red", 1.2, "rubber", paths[1]),
  )
  video = shot(*bodies)
  counts = [len(segment.blobs(c)) for c in segment.coverage(video)]
  assert min(counts) == 1  # they do touch
  seen = track.tracks(video)[0]
  assert names(video) == [("red", "disc"), ("red", "square")]
  assert [len(t.frames) for t in seen] == [9, 9]
  for one in seen:
    path = paths[0] if one.shape == "disc" else paths[1]
    truth = (path.at(TIMES)[0] + 5) * 6.4
    np.testing.assert_allclose(one.pixels, truth, atol=1.0)


@pytest.mark.parametrize("becomes", ["cyan", "yellow", "blue"])
def test_a_new_colour_is_the_same_thing(becomes):
  times = np.arange(17) / 8
  one = body("red", "star", becomes=becomes)
  (seen,), *_ = track.tracks(shot(one, times=times))
  assert (seen.colour, seen.becomes, seen.shape) == ("red", becomes, "star")


def test_many_grains_are_counted_and_are_no_tracks():
  grains = [
    body("yellow", at=(y, x), radius=0.4)
    for y in np.arange(5) * 0.9 - 2
    for x in np.arange(8) * 0.9 - 3.2
  ]
  seen, count, colour, debris = track.tracks(shot(grains=grains))
  assert (seen, colour) == ((), "yellow")
  assert abs(count - 40) <= 2
  assert debris.max() < 0.01


def test_a_flash_and_a_stray_blob_are_debris():
  one = body("red", at=(0.0, -2.0))
  video = shot(one)
  flash = shot(one, body("blue", at=(0.0, 3.0)))
  video[4] = flash[4]
  (seen,), _, _, debris = track.tracks(video)
  assert (seen.colour, len(seen.frames)) == ("red", 9)
  assert debris[4] == pytest.approx(9 / 10, abs=0.02)  # of the mean frame
  assert np.delete(debris, 4).max() < 0.01


@pytest.mark.parametrize("side", [32, 64])
def test_what_a_wall_leaves_of_a_star_is_one_thing(side):
  """From the split "test_paraphrases" of phenomena, seed 11, clip 11."""
  star = body("red", "star", (-2.9, -3.4), (0.0, 3.5), radius=0.8)
  wall = Wall((0.0, 0.07), (10.0, 1.84), 90, front=True)
  video = shot(star, walls=(wall,), side=side, times=np.arange(17) / 8)
  (seen,), _, _, debris = track.tracks(video)
  assert (seen.colour, seen.shape) == ("red", "star")
  assert debris.mean() < 0.01
  # A star that is torn in two, and all there, is not mended.
  torn = shot(star, side=side, times=np.arange(17) / 8)
  middle = round((-2.9 + 5) * side / 10)
  torn[8:, middle - 1 : middle + 1] = 128
  assert len(track.tracks(torn)[0]) > 1


@pytest.mark.parametrize(
  "change",
  [
    lambda v: ndimage.gaussian_filter(v, (0, 1, 1, 0)),
    lambda v: np.clip(
      v + np.random.default_rng(0).normal(0, 14, v.shape), 0, 255
    ).astype(np.uint8),
  ],
  ids=["blur", "noise"],
)
def test_survives_what_a_decoder_does(change):
  pair = (body("red", "disc", (0, -2.0)), body("blue", "square", (0, 2.0)))
  video = change(shot(*pair))
  assert names(video) == [("blue", "square"), ("red", "disc")]
  assert track.tracks(video)[3].max() < 0.02


def test_grey_things_are_nothing():
  wall = Wall((0.0, 0.0), (2.0, 2.0), 90)
  seen, count, colour, debris = track.tracks(shot(walls=(wall,)))
  assert (seen, count, colour) == ((), 0, "")
  assert not debris.any()


@pytest.mark.parametrize(
  "video, named",
  [
    (np.zeros((0, 32, 32, 3), np.uint8), r"\(0, 32, 32, 3\)"),
    (np.zeros((2, 32, 32), np.uint8), r"\(2, 32, 32\)"),
    (np.zeros((2, 32, 32, 3), np.float32), "float32"),
  ],
)
def test_other_videos_are_refused(video, named):
  with pytest.raises(ValueError, match=named):
    track.tracks(video)
