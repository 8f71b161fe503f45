"""The measures are 0 for what keeps the laws, and the right size otherwise."""

import math

import numpy as np
import pytest

from sora_jax.data.sources import world
from sora_jax.data.world import camera
from sora_jax.evaluators.oracle import nouns, physics

FPS = 8.0
TIME = np.arange(17) / FPS


def motions(count):
  source = world.World("motion", 1, 17, 32, 32, FPS, 0).clips("test")
  return [source[k].state for k in range(count)]


def mass(state):
  return state.radius[0] ** 2


def test_places_undo_the_camera():
  centre = np.stack([0 * TIME, 1.5 * TIME], 1)
  zoom = 1.2**TIME
  truth = np.stack([1 - TIME, 2 * TIME], 1)
  frames = np.arange(3, 12)
  pixels = camera.to_pixels(truth, centre, zoom, 32, 48)[frames]
  one = np.ones(len(frames))
  track = nouns.Track(
    frames, pixels, one, "red", "", "disc", -1, 0 * one, fit=0.0
  )
  view = nouns.View("pan", "right", centre, zoom)
  assert np.allclose(physics.places(track, view, 32, 48), truth[frames])


def test_velocity_error_is_the_mean_distance():
  position = np.stack([0 * TIME, 3 * TIME], 1)
  truth = np.tile([0.0, 3.0], (17, 1))
  found = physics.velocity(position, TIME)
  assert physics.velocity_error(found, truth) == pytest.approx(0)
  assert physics.velocity_error(2 * found, truth) == pytest.approx(3)
  found[4:] = np.nan
  assert physics.velocity_error(
    found, np.add(truth, (4.0, 3.0))
  ) == pytest.approx(5)
  assert math.isnan(physics.velocity_error(found * np.nan, truth))
  with pytest.raises(ValueError, match=r"velocity_error.*\(17, 2\).*\(16, 2\)"):
    physics.velocity_error(found, truth[:16])


def sides(state):
  """Frames before the first impact and after the last."""
  struck = [e.time for e in state.events]
  return min(struck) >= TIME, max(struck) < TIME


def test_collisions_keep_momentum_and_the_energy_that_the_truth_keeps():
  shown = [s for s in motions(24) if s.shots[0].scene.motion == "collision"]
  assert len(shown) > 3
  for state in shown:
    truth, masses = state.velocity, mass(state)

    def energy(found, truth, s=state, m=masses):
      return physics.energy_error(found, truth, m, *sides(s))

    def momentum(found, s=state, m=masses):
      return physics.momentum_error(found, m, *sides(s))

    assert energy(truth, truth) == 0
    # Elastic: what the truth keeps is all.
    start = np.repeat(truth[:1], len(truth), axis=0)
    assert energy(truth, start) < 1e-6
    assert momentum(truth) < 1e-6
    slow = truth * np.linspace(1, 0.5, 17)[:, None, None]
    assert energy(slow, truth) > 0.2
    assert energy(slow, slow) == 0
    one = np.where([[[True], [False]]], slow, truth)
    assert momentum(one) > 0.05
    assert math.isnan(energy(0 * truth, truth))
    assert math.isnan(momentum(0 * truth))
    early = truth.copy()
    early[sides(state)[1]] = np.nan  # never seen again
    assert math.isnan(energy(early, truth)) and math.isnan(momentum(early))


def test_unseen_bodies_leave_frames_out():
  before = np.arange(17) < 8
  velocity = np.ones((17, 2, 2))
  velocity[:5, 1] = np.nan
  velocity[before, 0] *= -1
  args = np.ones(2), before, ~before
  assert physics.momentum_error(velocity, *args) == pytest.approx(1)
  truth = np.ones((17, 2, 2))
  truth[:5] = 7.0  # where a body is not seen, the truth does not count either
  assert physics.energy_error(velocity, truth, *args) == 0
  velocity[:, 0] = np.nan
  assert math.isnan(physics.energy_error(velocity, truth, *args))
  with pytest.raises(ValueError, match="energy_error"):
    physics.energy_error(velocity, truth[1:], *args)


def test_impacts_are_found_between_frames():
  wrong, count = [], 0
  for state in motions(24):
    for body in range(len(state.shots[0].scene.bodies)):
      truth = [
        e.time for e in state.events if body in e.bodies and 0.2 < e.time < 1.8
      ]
      found = physics.impacts(state.position[:, body], TIME)
      if len(truth) == 1:
        count += 1
        wrong.append(physics.collision_time_error(found, truth))
      if not any(body in e.bodies for e in state.events):
        assert not len(found)
  assert count > 5
  assert np.max(wrong) < 0.02


def test_collision_times_are_paired_once():
  error = physics.collision_time_error
  assert error([0.5, 1.5], [1.6, 0.5]) == pytest.approx(0.05)
  assert error([0.5, 0.55], [0.5]) == 0
  assert math.isnan(error([], [0.5]))


def test_penetration_is_the_deepest_overlap():
  a = np.stack([0 * TIME, TIME], 1)
  b = np.tile([0.0, 3.0], (17, 1))
  depth = physics.penetration(a, b, 1.0, np.ones(17))
  assert depth == pytest.approx(1.0)  # at last they are 1 apart
  assert physics.penetration(a, np.add(b, (9, 0)), 1.0, 1.0) == 0
  assert math.isnan(physics.penetration(a * np.nan, b, 1.0, 1.0))
  for state in motions(24):
    if state.shots[0].scene.motion == "collision":
      if any(b.shape != "disc" for b in state.shots[0].scene.bodies):
        continue
      pair = state.position.transpose(1, 0, 2), state.radius.T
      assert physics.penetration(*pair[0], *pair[1]) < 1e-9


def test_permanence():
  truth = np.stack([0 * TIME, 2 * TIME], 1)
  hidden = (TIME > 0.7) & (TIME < 1.2)
  found = np.where(hidden[:, None], np.nan, truth)
  back = physics.permanence(found, truth, hidden, FPS)
  assert (back.share, back.delay, back.distance) == (1, 0, 0)
  late = found.copy()
  late[:-4] = np.where(TIME[:-4, None] > 0.7, np.nan, found[:-4])
  after = int((TIME >= 1.2).sum())
  back = physics.permanence(np.add(late, (0.3, 0.4)), truth, hidden, FPS)
  assert back.share == pytest.approx(4 / after)
  assert back.delay == pytest.approx((after - 4) / FPS)
  assert back.distance == pytest.approx(0.5)
  gone = np.where(TIME[:, None] > 0.7, np.nan, truth)
  back = physics.permanence(gone, truth, hidden, FPS)
  assert back.share == 0
  assert math.isnan(back.delay)
  never = physics.permanence(truth, truth, 0 * hidden, FPS)
  assert math.isnan(never.share)


def test_acceleration_of_uniform_motion_is_zero_and_of_a_fall_gravity():
  line = np.stack([TIME, -2 * TIME], 1)
  assert physics.acceleration(line, FPS) == pytest.approx(0, abs=1e-9)
  fall = np.stack([5 * TIME**2, TIME], 1)
  assert physics.acceleration(fall, FPS) == pytest.approx(10)
  assert math.isnan(physics.acceleration(line[:2], FPS))


def test_intervals_leave_out_what_does_not_apply():
  mean, low, high, count = physics.interval([1.0, np.nan, 3.0, 2.0])
  assert (mean, count) == (2.0, 3)
  assert low < 2 < high
  assert physics.interval([np.nan])[3] == 0
