"""Laws hold on real renders, and each is broken by what should break it."""

import functools

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.evaluators.oracle import laws, read
from tests.evaluators.oracle import corruptions

FPS = 8.0


@functools.cache
def clips(name, count=12):
  source = World(
    set=name,
    count=1,
    test_count=count,
    frames=17,
    height=64,
    width=64,
    fps=FPS,
    seed=0,
  )
  return tuple(source.clips("test"))


def showing(motion, name="motion", count=12):
  """The first clip of a set with this motion."""
  return next(
    clip
    for clip in clips(name, count)
    if clip.state.shots[0].scene.motion == motion
  )


def judge(video, clip, start=0):
  paths = laws.followed(read.read(video, FPS), clip.state)
  return laws.laws(paths, clip.state, FPS, start)


@pytest.mark.parametrize("name", ["motion", "phenomena", "sound", "camera"])
def test_laws_hold_on_real_renders(name):
  for clip in clips(name)[:6]:
    found = judge(clip.video, clip)
    if not clip.state.position.shape[1]:  # a fluid has no bodies
      assert np.isnan(list(found.values())).all()
      continue
    assert found["seen"] == 1, clip.text
    assert found["position"] < 0.1
    assert found["velocity"] < 0.2
    for key in ("energy", "momentum", "penetration", "events"):
      assert not found[key] > 0.05, (key, found[key], clip.text)
    assert not found["missed"] > 0
    assert not found["returns"] < 0.9


def test_energy_is_judged_against_a_truth_that_loses_some():
  """The set "sound" has materials whose collisions lose energy."""
  clip = next(
    c
    for c in clips("sound", 40)
    if c.state.shots[0].scene.motion == "collision"
    and np.ptp((c.state.velocity[[0, -1]] ** 2).sum((1, 2))) > 1
  )
  assert judge(clip.video, clip)["energy"] < 0.05
  straight = laws.extrapolated(clip.state, 2, FPS)
  assert laws.laws(straight, clip.state, FPS)["energy"] > 0.1


def test_straight_on_is_right_until_something_is_hit():
  uniform = showing("uniform").state
  for start in (1, 5):
    found = laws.laws(laws.extrapolated(uniform, start, FPS), uniform, FPS)
    assert found["velocity"] < 1e-9 and found["position"] < 1e-9
  bounce = showing("bounce").state
  found = laws.laws(laws.extrapolated(bounce, 2, FPS), bounce, FPS, start=2)
  assert found["velocity"] > 1
  assert found["missed"] == 1
  with pytest.raises(ValueError, match="start=0"):
    laws.extrapolated(uniform, 0, FPS)


def test_only_what_was_not_given_is_judged():
  clip = showing("uniform")
  video = clip.video.copy()
  video[:4] = video[:1]  # stands still, then jumps
  whole, late = judge(video, clip), judge(video, clip, start=6)
  assert late["velocity"] < 0.1 < whole["velocity"]
  last = clip.video.copy()
  last[5:] = last[4]
  speed = float(np.linalg.norm(clip.state.velocity[0, 0]))
  found = judge(last, clip, start=7)["velocity"]
  assert found == pytest.approx(speed, rel=0.1)


def without_bodies(clip, since):
  """The clip, with its background alone from a frame on."""
  video = clip.video.copy()
  background = np.median(video.reshape(-1, 3), axis=0)
  video[since:] = background.astype(np.uint8)
  return video


def test_a_body_that_vanishes_is_not_seen_and_counts_as_held():
  clip = showing("uniform")
  found = judge(without_bodies(clip, 10), clip)
  assert found["seen"] == pytest.approx(10 / 17)
  speed = np.linalg.norm(clip.state.velocity[0], axis=-1).mean()
  assert found["velocity"] == pytest.approx(7 / 17 * speed, rel=0.1)
  late = judge(without_bodies(clip, 10), clip, start=10)
  assert late["seen"] == 0
  assert late["velocity"] == pytest.approx(speed, rel=0.05)
  assert late["position"] > found["position"]


def test_vanishing_before_the_impact_breaks_the_conservation_laws():
  clip = showing("collision")
  (impact,) = (event.time for event in clip.state.events)
  before = int(impact * FPS)
  assert before > 5
  found = judge(without_bodies(clip, before), clip, start=5)
  assert found["energy"] > 0.9 and found["momentum"] > 0.3
  # What was given is not judged: all of the collision was.
  given = judge(clip.video, clip, start=before + 3)
  assert np.isnan(given["energy"]) and np.isnan(given["missed"])


def test_a_body_that_stays_behind_the_wall_does_not_return():
  clip = showing("occlusion", "phenomena", 40)
  hidden = laws._hidden(clip.state)[0][:, 0]
  assert hidden.any()
  gone = clip.video.copy()
  gone[hidden.argmax() :] = gone[hidden.argmax()]
  assert judge(clip.video, clip)["returns"] > 0.9
  assert judge(gone, clip)["returns"] == 0


def test_bodies_that_run_into_each_other_penetrate():
  state = showing("collision").state
  place = state.position.copy()
  paths = laws.Paths(place, state.velocity, np.zeros(0))
  assert laws.laws(paths, state, FPS)["penetration"] == 0
  place[12, 1] = place[12, 0]
  radii = sum(body.radius for body in state.shots[0].scene.bodies)
  found = laws.laws(paths, state, FPS)["penetration"]
  assert found == pytest.approx(radii, rel=0.15)
  assert laws.laws(paths, state, FPS, start=13)["penetration"] == 0


def test_the_deepest_of_all_pairs_counts():
  place = np.zeros((5, 3, 2))
  place[:, 1, 1], place[:, 2, 1] = 4.0, 5.5
  radius = np.array([1.0, 0.9, 1.1])
  assert laws._depth(place, radius) == pytest.approx(0.5)
  place[:, 2] = np.nan
  assert laws._depth(place, radius) == 0
  assert np.isnan(laws._depth(place[:, 2:], radius[2:]))


def test_corruptions_break_the_laws():
  clip = showing("uniform")
  for spoil in (corruptions.frozen, corruptions.doubled, corruptions.shuffled):
    found = judge(spoil(clip.video), clip)
    assert found["velocity"] > 0.4 or found["position"] > 0.3, spoil.__name__
