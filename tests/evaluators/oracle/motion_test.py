"""Motion words, impacts and velocities, from tracks that are known exactly."""

import numpy as np
import pytest

from sora_jax.data.world import camera
from sora_jax.evaluators.oracle import motion
from sora_jax.evaluators.oracle.nouns import Track, View

TIMES = np.arange(17) / 8
CENTRE = np.stack([0.4 * TIMES, -1.0 * TIMES], 1)
ZOOM = 1.1**TIMES


def track(y, x, radius=1.3, turn=0.0, shape="square", **changes):
  """A track of exact places in a view that pans and zooms."""
  points = np.stack(np.broadcast_arrays(y, x, TIMES)[:2], 1).astype(float)
  scale = camera.per_unit(ZOOM, 64, 64)
  fields = {
    "frames": np.arange(17),
    "pixels": camera.to_pixels(points, CENTRE, ZOOM, 64, 64),
    "area": np.pi * (radius * scale) ** 2,
    "colour": "red",
    "becomes": "",
    "shape": shape,
    "digit": -1,
    "angle": turn * TIMES,
    "fit": 0.0,
  }
  return Track(**fields | changes)


def read(*tracks, grains=0, walls=None):
  view = View("pan", "left", CENTRE, ZOOM)
  walls = np.zeros((17, 64, 64), bool) if walls is None else walls
  return motion.classify(tracks, view, walls, 8.0, grains)


@pytest.mark.parametrize(
  "word, down, right",
  [("left", 0, -1), ("right", 0, 1), ("up", -1, 0), ("down", 1, 0)],
)
@pytest.mark.parametrize("name, speed", [("slowly", 1.5), ("fast", 3.0)])
def test_a_line_has_a_direction_and_a_speed(word, down, right, name, speed):
  found = read(track(down * speed * TIMES, right * speed * TIMES))
  (one,) = found.tracks
  assert (found.kind, one.direction, one.speed) == ("uniform", word, name)
  assert one.size == "large"
  truth = np.tile([down * speed, right * speed], (17, 1))
  np.testing.assert_allclose(one.velocity, truth, atol=1e-6)


def test_what_stays_rests_turns_or_grows():
  assert read(track(0, 1)).kind == "rest"
  spin = read(track(0, 1, turn=-0.8))
  assert spin.kind == "spin"
  assert spin.tracks[0].direction == "counterclockwise"
  assert spin.tracks[0].rate == pytest.approx(-0.8)
  for end, word in ((1.7, "grows"), (0.6, "shrinks")):
    grow = read(track(0, 1, radius=1 + (end - 1) * TIMES / 2))
    assert (grow.kind, grow.tracks[0].grows) == ("grow", word)


def test_a_bounce_is_timed_between_frames():
  hit = np.sqrt(2 * 3.0 / 10)
  after = TIMES - hit
  y = np.where(after < 0, 5 * TIMES**2, 3 - 10 * hit * after + 5 * after**2)
  found = read(track(y, 1))
  assert found.kind == "bounce"
  assert found.events[0].time == pytest.approx(hit, abs=1e-3)
  assert found.events[0].speed == pytest.approx(10 * hit, abs=1e-2)
  assert found.events[0].bodies == (0,)


def test_a_collision_is_timed_between_frames():
  after = TIMES - 0.93
  x = 1.3 + np.where(after < 0, -2.0 * after, 1.5 * after)
  found = read(track(0, x), track(0, -x))
  assert found.kind == "collision"
  (event,) = found.events
  assert event.bodies == (0, 1)
  assert event.time == pytest.approx(0.93, abs=1e-3)
  assert event.speed == pytest.approx(4.0, abs=1e-2)


def test_a_kink_without_a_partner_is_no_collision():
  x = np.where(TIMES < 1, 1.5 * TIMES, 3 - 1.5 * TIMES)
  assert read(track(0, x)).kind == ""


def test_an_arc_below_a_pivot_is_a_pendulum():
  angle = 0.8 * np.cos(TIMES * np.sqrt(10 / 4))
  found = read(track(-4 + 4 * np.cos(angle), 4 * np.sin(angle)))
  assert found.kind == "pendulum"
  assert found.events == ()


def test_hidden_recoloured_and_liquid():
  gone = np.r_[0:6, 11:17]
  whole = track(0, 2.0 * TIMES)
  parts = {k: getattr(whole, k)[gone] for k in ("pixels", "area", "angle")}
  hidden = track(0, 0, frames=gone, **parts)
  walls = np.zeros((17, 64, 64), bool)
  y, x = whole.pixels.mean(0).astype(int)
  walls[:, :, x - 6 : x + 6] = True
  assert read(hidden, walls=walls).kind == "occlusion"
  # What flickers where no wall is moves on.
  assert read(hidden).kind == "uniform"
  beside = np.roll(walls, 30, 2)
  assert not beside[:, y, x].any()
  assert read(hidden, walls=beside).kind == "uniform"
  assert read(track(0, 0, becomes="blue")).kind == "recolour"
  assert read(grains=40).kind == "fluid"
  assert read().kind == ""


def test_no_rate_of_frames_is_refused():
  view = View("still", "", CENTRE, ZOOM)
  with pytest.raises(ValueError, match="fps=0"):
    motion.classify((), view, np.zeros((1, 64, 64), bool), 0)
