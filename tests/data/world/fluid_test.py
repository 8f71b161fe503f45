"""The heap of grains: it stays in, settles, levels out, and repeats itself."""

import numpy as np
import pytest

from sora_jax.data.world import fluid

VESSEL = ((-4.5, -3.5), (4.0, 3.5))
SECONDS = 4.0


def settled(seed=0, count=40, radius=0.4, vessel=VESSEL, seconds=SECONDS):
  rng = np.random.default_rng(seed)
  return fluid.settle(rng, count, radius, vessel, seconds)


def sample(paths, times):
  """Positions and velocities [T, N, 2]."""
  states = [path.at(np.asarray(times, np.float64)) for path in paths]
  return tuple(np.stack(s, 1) for s in zip(*states))


def overlaps(position, radius):
  """Of all touching pairs, as shares of the diameter."""
  first, second = np.triu_indices(len(position), 1)
  apart = np.sqrt(((position[first] - position[second]) ** 2).sum(-1))
  share = 1 - apart / (2 * radius)
  return share[share > 0]


@pytest.mark.parametrize(
  "count, radius, vessel",
  [
    (20, 0.5, VESSEL),
    (40, 0.4, VESSEL),
    (80, 0.3, VESSEL),
    (80, 0.3, ((-20.0, -1.5), (4.0, 1.5))),  # a deep one
  ],
)
def test_grains_stay_in_the_vessel_and_barely_overlap(count, radius, vessel):
  (_, left), (bottom, right) = vessel
  for seed in range(2):
    paths = settled(seed, count, radius, vessel)
    assert len(paths) == count
    steps = np.arange(int(SECONDS * fluid.RATE)) / fluid.RATE
    # Where a grain hits a wall, the path's smooth pieces round the corner.
    for times, slack in ((steps, 1e-9), (steps + 0.005, 0.05 * radius)):
      position, _ = sample(paths, times)
      assert position[..., 0].max() <= bottom - radius + slack
      assert position[..., 1].min() >= left + radius - slack
      assert position[..., 1].max() <= right - radius + slack
    position, _ = sample(paths, steps[::10])
    for frame in position:
      assert overlaps(frame, radius).max(initial=0.0) < 0.15
    end = overlaps(position[-1], radius)
    assert end.max() < 0.1 and end.mean() < 0.03


def test_the_heap_comes_to_rest_and_levels_out():
  for seed in range(4):
    paths = settled(seed)
    position, velocity = sample(paths, np.linspace(0, SECONDS, 241))
    kinetic = (velocity**2).sum(-1).mean(-1) / 2
    assert kinetic.max() > 1.0
    assert kinetic[-20:].max() < 0.02 * kinetic.max()
    start, end = position[0], position[-1]
    assert end[:, 0].mean() > start[:, 0].mean() + 0.5
    tops = [
      end[(end[:, 1] >= low) & (end[:, 1] < low + 1.4), 0].min()
      for low in np.arange(-3.5, 3.4, 1.4)
    ]
    assert np.ptp(tops) < 2.5 * 0.8  # diameters
    assert np.ptp(end[:, 1]) > 0.95 * (7.0 - 0.8)  # from wall to wall


def test_a_block_falls_freely_before_it_lands():
  rng = np.random.default_rng(3)
  start = fluid.block(rng, 40, 0.4, VESSEL)
  paths = settled(3)
  height = 4.0 - 0.4 - start[:, 0].max()
  time = 0.8 * np.sqrt(2 * height / fluid.GRAVITY)
  position, velocity = sample(paths, [0.0, time])
  np.testing.assert_allclose(position[0], start)
  drop = fluid.GRAVITY * time**2 / 2
  np.testing.assert_allclose(
    position[1, :, 0], start[:, 0] + drop, atol=0.05 * drop + 0.02
  )
  np.testing.assert_allclose(velocity[1, :, 0], fluid.GRAVITY * time, rtol=0.1)


def test_a_block_lies_in_the_vessel_without_overlaps():
  for seed in range(50):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(20, 81))
    position = fluid.block(rng, count, 0.35, VESSEL)
    assert position.shape == (count, 2)
    assert overlaps(position, 0.35).size == 0
    assert (position >= np.array(VESSEL[0]) + 0.35).all()
    assert (position <= np.array(VESSEL[1]) - 0.35).all()


def test_the_same_seed_gives_the_same_bytes_at_any_length():
  times = np.linspace(0, 0.9, 40)
  first, again = settled(seconds=1.0), settled(seconds=1.0)
  longer = settled(seconds=1.5)
  other = settled(seed=1, seconds=1.0)
  bytes_of = [sample(p, times)[0].tobytes() for p in (first, again, longer)]
  assert len(set(bytes_of)) == 1
  assert sample(other, times)[0].tobytes() != bytes_of[0]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"count": 19}, "count=19 grains; valid are 20..80"),
    ({"count": 81}, "count=81"),
    ({"radius": 0.0}, "radius=0.0"),
    ({"seconds": 0.0}, "seconds=0.0"),
    ({"radius": 0.8}, "cannot hold a block of 40 grains of radius 0.8"),
    ({"vessel": ((4.0, 3.5), (-4.5, -3.5))}, "cannot hold"),
    ({"vessel": ((-np.inf, 0.0), (0.0, 1.0))}, "must be finite"),
  ],
)
def test_bad_input_is_one_clear_error(changes, message):
  with pytest.raises(ValueError, match=message):
    settled(**changes)
