"""The flow's own map is consistent, and what teaches is the guided flow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import levels as levels_lib
from sora_jax.diffusion import process
from sora_jax.objectives import consistency, latent_diffusion
from tests.objectives import latent_diffusion_test as base

STD = 0.5


def objective(**changes):
  given = base.objective(
    **{
      "process": process.Process("rectified", "x0"),
      "weight": process.WEIGHTS["x0"],
      "times": process.TIMES["uniform"],
    }
  )
  fields = {k: getattr(given, k) for k in given.__dataclass_fields__}
  return consistency.Consistency(
    **{**fields, "steps": 20, "parts": 1, "scale": 0.0, **changes}
  )


def gaussian(data):
  """The batch with video tokens of N(0, STD^2)."""
  noise = np.random.default_rng(0).normal(size=data["video"].shape)
  return {**data, "video": (STD * noise).astype(np.float32)}


def part_of(parts):
  """The x0 that leads by Euler to where the flow leaves x_t's stretch."""

  def predict(packed):
    video = packed.streams["video"]
    at = latent_diffusion.LatentDiffusion.spread(video, packed.levels)
    at = jnp.maximum(at, 1e-3)  # what is known has no way before it
    end = (jnp.ceil(parts * at - 1e-4) - 1) / parts
    variance, last = ((1 - t) ** 2 * STD**2 + t**2 for t in (at, end))
    goal = jnp.sqrt(last / variance) * video.tokens
    return (goal - end / at * video.tokens) / (1 - end / at)

  return base.Stub(predict)


def map_of(power):
  """x0 as a function of x_t: of power 1/2 the flow's end, of 1 the mean."""

  def predict(packed):
    video = packed.streams["video"]
    at = latent_diffusion.LatentDiffusion.spread(video, packed.levels)
    variance = (1 - at) ** 2 * STD**2 + at**2
    if power == 1:
      return (1 - at) * STD**2 / variance * video.tokens
    return STD / jnp.sqrt(variance) * video.tokens

  return base.Stub(predict)


class Flow:
  """A teacher that knows the mean, and a student with another map."""

  def __init__(self, student):
    self.student = student

  def apply(self, variables, packed):
    who = variables["params"]
    return (map_of(1) if who == "teacher" else self.student).predict(packed)


def loss(o, data, frozen=None, params=None, seed=0):
  found, metrics = o.loss(
    {"dit": params}, frozen or {}, data, jax.random.key(seed), 0
  )
  return float(found), {k: v.compute() for k, v in metrics.items()}


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_end_of_the_flow_is_consistent_and_the_mean_is_not(scale):
  """The loss of the flow's map vanishes with the teacher's steps."""
  data, frozen = gaussian(base.batch()), {"teacher": "teacher"}
  ends, means = (
    [
      loss(
        objective(model=Flow(map_of(power)), steps=steps, scale=scale),
        data,
        frozen,
      )[0]
      for steps in (20, 80, 320)
    ]
    for power in (0.5, 1)
  )
  # Local errors of Euler's steps are h^2 each, and squared here; but for the
  # last one before data, they are all there is.
  assert ends[0] > 6 * ends[1] > 36 * ends[2] > 0
  assert means[2] > 100 * ends[2]


def unmoved(times, tokens):
  """No shift: places on the grid are noise levels."""
  return times + 0 * tokens


def test_a_stretch_of_the_flow_is_consistent_and_the_whole_is_not():
  data, frozen = gaussian(base.batch()), {"teacher": "teacher"}
  same = {"parts": 4, "scale": 1.0, "shift": unmoved}
  own, whole = (
    [
      loss(
        objective(model=Flow(student), steps=n, **same),
        data,
        frozen,
      )[0]
      for n in (16, 64, 256)
    ]
    for student in (part_of(4), map_of(0.5))
  )
  assert own[0] > 6 * own[1] > 36 * own[2] > 0
  assert whole[2] > 1000 * own[2]


def test_sampling_passes_the_ends_of_parts_wherever_it_begins():
  o, tokens = objective(steps=8, parts=4), np.array([3.0, 12.0, 48.0])
  ends = np.asarray(o.shift(np.arange(4, -1, -1.0)[:, None] / 4, tokens))
  times = np.linspace(1, 0, 5)[:, None]
  np.testing.assert_allclose(o.passed(times, tokens, 1.0), ends, rtol=1e-6)
  begun = np.asarray(o.passed(times, tokens, 0.6))
  for at, all_ends in zip(begun.T, ends.T):
    assert at[0] == np.float32(0.6) and (np.diff(at) <= 0).all()
    np.testing.assert_allclose(
      at[at < 0.6], all_ends[all_ends < 0.6], rtol=1e-6
    )
  whole = dataclasses.replace(o, parts=1).passed(times, tokens, 0.6)
  np.testing.assert_allclose(whole, 0.6 * ends, rtol=1e-6)


def test_training_ends_where_sampling_passes():
  """All levels of parts of one step are their ends, shifted as sampling's."""
  seen = []

  def predict(packed):
    seen.append(np.asarray(packed.levels))
    return 0.5 * packed.streams["video"].tokens

  data = base.batch()
  o = objective(model=base.Stub(predict), steps=4, parts=4, scale=1.0)
  o = dataclasses.replace(o, mixture={"clip": 1.0})
  loss(o, data, {"teacher": None})
  tokens = np.asarray(levels_lib.sizes(data["video_segments"], o.clips))
  there = tokens > 0
  passed = o.passed(np.linspace(1, 0, 5)[:, None, None], tokens, 1.0)
  moved = set()
  for levels in seen:
    own = levels[:, 1:].reshape(*tokens.shape, -1)[there]  # [clips, frames]
    ends = np.asarray(passed)[:, there].T  # [clips, ends]
    far = np.abs(own[..., None] - ends[:, None])
    assert far.min(axis=-1).max() < 1e-6
    moved |= {*np.round(own.ravel(), 4)}
  assert len(moved) > 5  # of clips of several sizes, so not on one grid


def test_of_parts_of_one_step_each_the_teacher_is_the_student():
  o = objective(model=base.model(), steps=8, parts=8, scale=1.0)
  params, data = base.params(), base.batch()
  frozen = {"teacher": params["dit"]}
  found, _ = loss(o, data, frozen, params["dit"])
  other, _ = loss(dataclasses.replace(o, parts=1), data, frozen, params["dit"])
  assert found < 1e-8 < 1e-4 < other


def test_a_teacher_steps_as_the_sampler_does():
  o = objective(model=base.model(), scale=2.0)
  video, text, levels, noise = base.leveled(base.batch())
  params, lower = base.params(), 0.8 * levels
  at = o.spread(video, levels)
  xt = o.process.corrupt(video.tokens, noise, at)
  found = o._down(params, video, text, xt, levels, lower)
  free = latent_diffusion.drop_text(text, np.ones((len(xt), o.clips), bool))

  def guided(x, t):
    pairs = [o.denoiser(params, video, words)(x, t) for words in (text, free)]
    return tuple(b + 2.0 * (a - b) for a, b in zip(*pairs))

  x0, n = guided(xt, levels)
  alpha, sigma = o.process.coefficients(o.spread(video, lower))
  np.testing.assert_allclose(found, alpha * x0 + sigma * n, rtol=2e-5)
  plain = objective(model=base.model(), scale=1.0)
  other = plain._down(params, video, text, xt, levels, lower)
  assert np.abs(np.asarray(found) - other).max() > 1e-2


def test_times_are_neighbours_on_the_grid():
  o, key = objective(steps=8), jax.random.key(0)
  upper, lower = (
    np.asarray(o._times(key, (4, 500), lambda k, down=down: k - down))
    for down in (0, 1)
  )
  np.testing.assert_allclose(8 * (upper - lower), 1, rtol=1e-5)
  assert set(np.rint(8 * upper).astype(int).ravel()) == set(range(1, 9))
  assert lower.min() == 0 and upper.max() == 1


@pytest.mark.parametrize("parts", [1, 4])
def test_known_tokens_stay_and_carry_no_loss(parts):
  seen = []

  def predict(packed):
    video = packed.streams["video"]
    seen.append(jax.tree.map(np.asarray, (video, packed.levels)))
    return 0.5 * video.tokens

  data = base.batch()
  o = objective(
    model=base.Stub(predict),
    mixture={"first_frame": 1.0},
    scale=2.0,
    parts=parts,
  )
  before, _ = loss(o, data, {"teacher": None})
  assert len(seen) == 4  # the teacher with and without words, and the student
  for video, levels in seen:
    known = (video.level == 0) & (video.segments > 0)
    first = (video.positions[..., 0] == 0) & (video.segments > 0)
    assert known.any() and (known <= first).all()
    np.testing.assert_array_equal(video.tokens[known], data["video"][known])
    assert (levels[:, 0] == 0).all()
  # The third is the student, further down than the fourth.
  assert (seen[2][1][:, 1:] < seen[3][1][:, 1:]).all()
  again, _ = loss(o, data, {"teacher": None})
  assert before == again and np.isfinite(before)


@pytest.mark.parametrize("parts", [1, 4])
def test_gradients_go_to_the_student_at_the_upper_level_alone(parts):
  data, o = base.batch(), objective(scale=1.5, parts=parts)
  params = base.params()
  frozen = {"teacher": jax.tree.map(lambda x: 0.9 * x, params["dit"])}

  @jax.jit
  def of(student, teacher):
    frozen = {"teacher": teacher}
    return o.loss(student, frozen, data, jax.random.key(1), 0)[0]

  own, theirs = jax.grad(of, argnums=(0, 1))(params, frozen["teacher"])
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(own))
  assert max(np.abs(g).max() for g in jax.tree.leaves(own)) > 0
  assert not any(np.abs(g).max() for g in jax.tree.leaves(theirs))


def test_without_a_teacher_the_data_teach():
  data = base.batch()
  p = process.Process("rectified", "x0")
  right = base.oracle(p, data["video"])
  found, metrics = loss(objective(model=right), data)
  assert found < 1e-9 and metrics["fill"] > 0.5
  wrong = base.Stub(lambda packed: right.predict(packed) * 1.1)
  # Consistent with itself, and not with data, to which one step leads.
  assert loss(objective(model=wrong, steps=1), data)[0] > 1e-4


def test_options_out_of_range_are_named():
  with pytest.raises(ValueError, match="steps=0"):
    objective(steps=0)
  with pytest.raises(ValueError, match=r"scale=-1"):
    objective(scale=-1.0)
  with pytest.raises(ValueError, match=r"parts=3 .*steps=8"):
    objective(steps=8, parts=3)
