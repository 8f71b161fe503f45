"""Event-driven collisions: conservation, exactness, order, errors."""

import itertools
import math

import numpy as np
import pytest

from sora_jax.data.world import collide, vocabulary

BOX = ((-4.0, -4.0), (4.0, 4.0))
FLOOR = ((None, None), (0.0, None))


def puck(y, x, vy=0.0, vx=0.0, radius=1.0, shape="disc", restitution=1.0):
  return collide.Puck((y, x), (vy, vx), radius, shape, restitution)


def scene(seed, count=None, restitution=None, reach=4.0):
  """Random discs inside the box, apart from each other."""
  rng = np.random.default_rng(seed)
  count = count or int(rng.integers(2, 6))
  bodies = []
  while len(bodies) < count:
    radius = rng.uniform(0.3, 1.0)
    place = rng.uniform(radius - reach, reach - radius, 2)
    if all(np.hypot(*(place - b.position)) > radius + b.radius for b in bodies):
      velocity = rng.uniform(-4, 4, 2)
      e = rng.uniform(0.5, 0.95) if restitution is None else restitution
      bodies.append(puck(*place, *velocity, radius, restitution=e))
  return bodies


def sample(paths, times):
  """Positions and velocities [N, T, 2]."""
  states = [path.at(np.asarray(times, np.float64)) for path in paths]
  return tuple(np.stack(s) for s in zip(*states))


def masses(bodies):
  return np.array([b.radius**2 for b in bodies])


def energy(bodies, paths, times, gravity=0.0):
  """Of all bodies together [T]; y points down."""
  position, velocity = sample(paths, times)
  each = (velocity**2).sum(-1) / 2 - gravity * position[..., 0]
  return (masses(bodies)[:, None] * each).sum(0)


def deepest(bodies, paths, times):
  """The deepest overlap of two bodies or of one with the box, units."""
  position, _ = sample(paths, times)
  radius = np.array([b.radius for b in bodies])
  depths = [(np.abs(position).max(-1) + radius[:, None] - 4).max()]
  for i, j in itertools.combinations(range(len(bodies)), 2):
    apart = np.sqrt(((position[i] - position[j]) ** 2).sum(-1))
    depths.append((radius[i] + radius[j] - apart).max())
  return max(depths)


@pytest.mark.parametrize("gravity", [0.0, 10.0])
def test_elastic_scenes_conserve_energy_and_nothing_penetrates(gravity):
  impacts = 0
  for seed in range(200):
    bodies = scene(seed, restitution=1.0)
    paths, events = collide.simulate(bodies, 2.0, gravity, BOX)
    times = np.random.default_rng(seed).uniform(0, 2, 200)
    each = energy(bodies, paths, times, gravity)
    (start,) = energy(bodies, paths, [0.0], gravity)
    np.testing.assert_allclose(each, start, rtol=0, atol=1e-9)
    assert deepest(bodies, paths, times) < 1e-9
    impacts += sum(e.kind == "bodies" for e in events)
  assert impacts > 200


def test_without_walls_momentum_is_conserved():
  impacts = 0
  for seed in range(200):
    bodies = scene(seed, count=5)
    paths, events = collide.simulate(bodies, 2.0)
    _, velocity = sample(paths, np.linspace(0, 2, 50))
    total = (masses(bodies)[:, None, None] * velocity).sum(0)
    np.testing.assert_allclose(total, total[:1].repeat(50, 0), atol=1e-9)
    assert all(event.kind == "bodies" for event in events)
    impacts += len(events)
  assert impacts > 200


@pytest.mark.parametrize("gravity", [0.0, 10.0])
def test_energy_never_rises_and_inelastic_bodies_do_not_penetrate(gravity):
  for seed in range(60):
    bodies = scene(seed, count=3)
    paths, _ = collide.simulate(bodies, 2.5, gravity, BOX)
    times = np.linspace(0, 2.5, 400)
    each = energy(bodies, paths, times, gravity)
    # A body that another one bears hops with at most this much.
    hop = (collide.HOP * gravity / 2) ** 2 * masses(bodies).sum()
    assert np.diff(each).max() < 1e-9 + hop
    assert each[-1] < each[0]
    assert deepest(bodies, paths, times) < 1e-9


@pytest.mark.parametrize("gravity", [0.0, 10.0])
def test_time_reversal_returns_to_the_start(gravity):
  reversed_impacts = 0
  for seed in range(30):
    bodies = scene(seed, count=3, restitution=1.0)
    paths, events = collide.simulate(bodies, 0.8, gravity, BOX)
    position, velocity = sample(paths, [0.8])
    back = [
      puck(*position[k, 0], *-velocity[k, 0], b.radius)
      for k, b in enumerate(bodies)
    ]
    paths, again = collide.simulate(back, 0.8, gravity, BOX)
    position, velocity = sample(paths, [0.8])
    start = np.array([b.position for b in bodies])
    np.testing.assert_allclose(position[:, 0], start, atol=1e-7)
    assert [e.bodies for e in again] == [e.bodies for e in events][::-1]
    times = [0.8 - e.time for e in again][::-1]
    np.testing.assert_allclose(times, [e.time for e in events], atol=1e-7)
    reversed_impacts += len(again)
  assert reversed_impacts > 60


def test_equal_masses_head_on_swap_their_velocities():
  bodies = [puck(0.0, -3.0, 0.0, 2.0), puck(0.0, 3.0, 0.0, -1.0)]
  paths, (event,) = collide.simulate(bodies, 3.0)
  assert event.kind == "bodies" and event.bodies == (0, 1)
  assert event.time == pytest.approx(4 / 3)  # 4 units at 3 per second
  assert event.speed == pytest.approx(3.0)
  assert event.position == pytest.approx((0.0, 2 / 3))
  _, velocity = sample(paths, [3.0])
  np.testing.assert_allclose(velocity[:, 0, 1], [-1.0, 2.0])


@pytest.mark.parametrize("line", [False, True])
def test_unequal_masses_and_restitution_follow_the_formula(line):
  bodies = [
    puck(0.0, -3.0, 0.0, 2.0, radius=1.2, restitution=0.9),
    puck(0.0, 1.0, 0.0, -0.5, radius=0.6, restitution=0.5),
  ]
  paths, (event,) = collide.simulate(bodies, 3.0, line=line)
  heavy, light = masses(bodies)
  middle = (2.0 * heavy - 0.5 * light) / (heavy + light)
  after = [
    middle - 0.5 * light / (heavy + light) * 2.5,
    middle + 0.5 * heavy / (heavy + light) * 2.5,
  ]
  _, velocity = sample(paths, [3.0])
  np.testing.assert_allclose(velocity[:, 0, 1], after)
  assert event.time == pytest.approx((4.0 - 1.8) / 2.5)
  assert event.position[1] == pytest.approx(-3.0 + 2.0 * event.time + 1.2)


def test_an_oblique_impact_keeps_the_tangential_velocities():
  bodies = [puck(0.0, -3.0, 0.0, 2.0), puck(1.0, 0.0)]
  paths, (event,) = collide.simulate(bodies, 3.0)
  position, velocity = sample(paths, [event.time, 3.0])
  normal = (position[1, 0] - position[0, 0]) / 2
  assert np.hypot(*normal) == pytest.approx(1.0)
  assert normal[0] == pytest.approx(0.5)  # one up of two apart
  assert event.speed == pytest.approx(2.0 * math.sqrt(0.75))
  np.testing.assert_allclose(velocity[1, 1], event.speed * normal)
  np.testing.assert_allclose(velocity.sum(0)[1], [0.0, 2.0], atol=1e-12)


@pytest.mark.parametrize("shape", ["disc", "square", "triangle", "star"])
def test_a_ball_bounces_when_free_fall_says_so(shape):
  low = vocabulary.extents(shape)[1] * 0.5
  body = puck(-low - 5.0, 1.0, radius=0.5, shape=shape, restitution=0.8)
  _, events = collide.simulate([body], 8.0, 10.0, FLOOR)
  fall = math.sqrt(2 * 5.0 / 10.0)
  speed = math.sqrt(2 * 5.0 * 10.0)
  time = fall
  for n, event in enumerate(events):
    assert event.kind == "wall" and event.bodies == (0,)
    assert event.time == pytest.approx(time)
    assert event.speed == pytest.approx(speed * 0.8**n)
    assert event.position == pytest.approx((0.0, 1.0))
    time += 2 * speed * 0.8 ** (n + 1) / 10.0
  assert len(events) >= 5


def test_a_bouncing_body_comes_to_rest_on_the_floor_and_slides_on():
  body = puck(-3.0, 0.0, 0.0, 0.5, restitution=0.7)
  (path,), events = collide.simulate([body], 30.0, 10.0, FLOOR)
  last = events[-1]
  assert 0.7 * last.speed < collide.REST <= 0.7 * events[-2].speed
  times = np.linspace(last.time, 30.0, 50)
  position, velocity = path.at(times)
  assert (position[:, 0] == -1.0).all()
  np.testing.assert_allclose(position[:, 1], 0.5 * times)
  np.testing.assert_array_equal(velocity, [[0.0, 0.5]] * 50)


def test_a_body_that_starts_on_the_floor_lies_there_without_an_event():
  (path,), events = collide.simulate([puck(-1.0, 0.0)], 2.0, 10.0, FLOOR)
  assert not events
  np.testing.assert_array_equal(path.at(np.array([2.0]))[0], [[-1.0, 0.0]])


def test_the_floor_bears_a_resting_body_that_is_hit_from_above():
  bodies = [
    puck(-1.0, 0.0, restitution=0.8),
    puck(-5.0, 0.0, restitution=0.8),
  ]
  paths, events = collide.simulate(bodies, 1.0, 10.0, FLOOR)
  hit = events[0]
  speed = math.sqrt(2 * 10.0 * 2.0)
  assert hit.bodies == (0, 1)
  assert hit.time == pytest.approx(math.sqrt(2 * 2.0 / 10.0))
  assert hit.speed == pytest.approx(speed)
  assert hit.position == pytest.approx((-2.0, 0.0))
  _, velocity = sample(paths, [hit.time])
  np.testing.assert_allclose(velocity[:, 0, 0], [0.0, -0.8 * speed])


def test_a_falling_disc_meets_a_resting_one_off_centre():
  bodies = [puck(-0.8, 0.0, radius=0.8), puck(-5.0, 0.6, 0.0, -0.3)]
  paths, events = collide.simulate(bodies, 1.2, 10.0, FLOOR)
  assert events[0].bodies == (0, 1)
  times = events[0].time + np.array([-1e-3, 0.0, 1e-3])
  position, velocity = sample(paths, times)
  apart = np.hypot(*(position[1] - position[0]).T)
  assert apart[1] == pytest.approx(1.8, abs=1e-12)
  assert apart[0] > 1.8 < apart[2]
  assert velocity[0, 1, 0] == 0.0  # only pushed along the floor
  each = energy(bodies, paths, [0.0, *times], 10.0)
  np.testing.assert_allclose(each, each[0], atol=1e-9)


@pytest.mark.parametrize("shape", ["square", "triangle", "star", "digit"])
def test_equal_shapes_on_a_line_touch_when_their_extents_meet(shape):
  _, _, left, right = vocabulary.extents(shape)
  bodies = [
    puck(0.5, -3.0, 0.0, 2.0, shape=shape),
    puck(0.5, 2.5, 0.0, -1.0, shape=shape),
  ]
  paths, (event,) = collide.simulate(bodies, 3.0, line=True)
  assert event.time == pytest.approx((5.5 - left - right) / 3)
  assert event.speed == pytest.approx(3.0)
  assert event.position[1] == pytest.approx(-3.0 + 2.0 * event.time + right)
  _, velocity = sample(paths, [3.0])
  np.testing.assert_allclose(velocity[:, 0, 1], [-1.0, 2.0])


def test_line_scenes_keep_their_order_and_their_energy():
  shapes = list(vocabulary.SHAPES)
  for seed in range(20):
    rng = np.random.default_rng(seed)
    bodies = [
      puck(0, x, 0, rng.uniform(-4, 4), rng.uniform(0.3, 0.9), shapes[k])
      for k, x in zip(rng.permutation(5), (-6.0, -3.0, 0.0, 3.0, 6.0))
    ]
    box = ((None, -8.0), (None, 8.0))
    paths, events = collide.simulate(bodies, 4.0, box=box, line=True)
    times = np.linspace(0, 4, 200)
    position, _ = sample(paths, times)
    assert (np.diff(position[..., 1], axis=0) > 0).all()
    each = energy(bodies, paths, times)
    np.testing.assert_allclose(each, each[0], atol=1e-9)
    assert {e.kind for e in events} == {"wall", "bodies"}


def test_bodies_pass_through_each_other_unless_they_collide():
  bodies = [puck(0, -3, 0, 3), puck(0, 3, 0, -3, shape="star")]
  paths, events = collide.simulate(bodies, 2.0, collide=False)
  assert not events
  np.testing.assert_allclose(sample(paths, [2.0])[0][:, 0, 1], [3.0, -3.0])


def test_simultaneous_impacts_come_lowest_index_first():
  bodies = [puck(y, 0.0, 0.0, 2.0) for y in (3.0, 0.0, -3.0)]
  box = ((None, None), (None, 5.0))
  _, events = collide.simulate(bodies, 3.0, box=box)
  assert [e.bodies for e in events] == [(0,), (1,), (2,)]
  assert {e.time for e in events} == {2.0}
  # A cradle: the impulse runs through the whole row at one time.
  row = [puck(0.0, 2.0 * k) for k in range(4)]
  paths, events = collide.simulate([puck(0.0, -4.0, 0.0, 1.0), *row], 5.0)
  assert [e.bodies for e in events] == [(k, k + 1) for k in range(4)]
  _, velocity = sample(paths, [5.0])
  np.testing.assert_allclose(velocity[:, 0, 1], [0, 0, 0, 0, 1], atol=1e-12)


def test_the_same_bodies_give_the_same_bytes_and_a_path_may_be_cut_short():
  bodies = scene(5, count=4)
  long, events = collide.simulate(bodies, 2.0, 10.0, BOX)
  again, same = collide.simulate(bodies, 2.0, 10.0, BOX)
  assert same == events
  short, few = collide.simulate(bodies, 1.0, 10.0, BOX)
  assert few == tuple(e for e in events if e.time <= 1.0)
  times = np.linspace(0, 1, 30)
  for a, b, c in zip(long, again, short):
    assert a.at(times)[0].tobytes() == b.at(times)[0].tobytes()
    assert a.at(times)[0].tobytes() == c.at(times)[0].tobytes()
    assert (np.diff(a.starts) > 0).all() and a.starts[0] == 0


def test_a_body_that_others_bear_does_not_rattle_without_end():
  # Between two walls, one lies on two: without sustained contacts it comes to
  # more than LIMIT impacts, ever smaller ones.
  bodies = [
    puck(-1.0, -1.8, restitution=0.5),
    puck(-1.0, 1.8, restitution=0.5),
    puck(-4.0, 0.0, restitution=0.5),
  ]
  box = ((None, -2.8), (0.0, 2.8))
  paths, events = collide.simulate(bodies, 4.0, 10.0, box)
  assert {e.kind for e in events} == {"wall", "bodies"}
  position, _ = sample(paths, np.linspace(0, 4, 400))
  for i, j in itertools.combinations(range(3), 2):
    assert np.hypot(*(position[i] - position[j]).T).min() > 2 - 1e-9
  # It lies low between them, not above where it could fall.
  held = -1.0 - math.sqrt(4.0 - 1.8**2)
  np.testing.assert_allclose(position[2, -20:, 0], held, atol=0.02)


def test_nearly_inelastic_bodies_part_in_the_end():
  bodies = [
    puck(0.0, x, 0.0, v, 0.5, restitution=0.05)
    for x, v in ((-2.0, 1.0), (0.0, 0.0), (2.0, -1.0))
  ]
  paths, _ = collide.simulate(bodies, 20.0)
  _, velocity = sample(paths, [20.0])
  assert (np.diff(velocity[:, 0, 1], axis=0) >= -1e-12).all()


@pytest.mark.parametrize(
  "bodies, options, message",
  [
    ([], {}, "0 bodies"),
    ([puck(0, 3 * k) for k in range(9)], {}, "9 bodies"),
    ([puck(0, 0)], {"seconds": 0}, "seconds=0"),
    ([puck(0, 0)], {"gravity": -1}, "gravity=-1"),
    ([puck(0, 0, radius=0)], {}, "radius=0"),
    ([puck(0, 0, radius=float("nan"))], {}, "radius=nan"),
    ([puck(0, 0, restitution=1.1)], {}, "restitution=1.1"),
    ([puck(0, 0, shape="cube")], {}, "'cube'.*disc, square"),
    ([puck(0, math.inf)], {}, "must be finite"),
    ([puck(0, 0), puck(0, 1.9)], {}, "0 and 1 overlap by 0.1"),
    ([puck(0, 0), puck(0, 1.9)], {"line": True}, "overlap by 0.1"),
    ([puck(3.5, 0)], {"box": BOX}, "box's bottom by 0.5"),
    ([puck(0, -3.2)], {"box": BOX}, "box's left by 0.2"),
    ([puck(0, 0, radius=5)], {"box": BOX}, "enlarge the box"),
    ([puck(0, 0), puck(0, 5, shape="star")], {}, "Body 1 is a star"),
    ([puck(0, 0), puck(0, 5, 1.0)], {"line": True}, "Body 1 leaves its line"),
    ([puck(0, 0)], {"line": True, "gravity": 1}, "Body 0 leaves its line"),
  ],
)
def test_impossible_scenes_are_one_clear_error(bodies, options, message):
  with pytest.raises(ValueError, match=message):
    collide.simulate(bodies, **{"seconds": 1.0} | options)


def test_a_rattling_pile_is_an_error_instead_of_a_hang():
  bodies = [puck(0, -1.0, 0, 900.0, 0.9), puck(0, 1.0, 0, -900.0, 0.9)]
  with pytest.raises(ValueError, match=r"2000 impacts by .*collide=False"):
    collide.simulate(bodies, 60.0, box=((-2.0, -2.0), (2.0, 2.0)))
