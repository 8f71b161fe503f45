"""The diffusion loss: packing, captions and conditions change nothing."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.data import loader, tokenizer
from sora_jax.data.latents import Item
from sora_jax.data.words import Words
from sora_jax.diffusion import process
from sora_jax.diffusion.levels import PATTERNS
from sora_jax.models.dit import DiT
from sora_jax.objectives import latent_diffusion
from sora_jax.types import Mean

CLIPS, FRAMES, PATCH = 2, 3, (1, 2, 2)
ROWS = loader.Rows(rows=2, length=14, text=40, clips=CLIPS, bins=2)
# Latents [t, h, w, 3] and captions of four clips, one of them an image.
CLIPS_OF = (
  ((3, 4, 4), "a red three"),
  ((1, 2, 4), "a green eight stays"),
  ((2, 2, 4), ""),
  ((3, 2, 4), "blue"),
)


@functools.cache
def words():
  captions = [caption for _, caption in CLIPS_OF]
  return Words(tokenizer.train(captions, 300), max_tokens=40, ct=4)


def sequences(captions=None):
  rng = np.random.default_rng(0)
  captions = captions or [caption for _, caption in CLIPS_OF]
  return [
    loader.tokens(
      Item(rng.normal(size=(*size, 3)).astype(np.float16), caption, ""),
      PATCH,
      words(),
    )
    for (size, _), caption in zip(CLIPS_OF, captions)
  ]


def batch(captions=None):
  """Two full rows, and one of padding alone."""
  rows = loader.rows_of(sequences(captions), ROWS)
  return {
    k: np.pad(v, [(0, 1)] + [(0, 0)] * (v.ndim - 1)) for k, v in rows.items()
  }


def model():
  return DiT(
    patch_size=12,
    width=16,
    depth=1,
    heads=2,
    mlp=24,
    attention="full",
    clips=2,
    modulation="block",
    rope_base=100.0,
    remat="none",
    scan=True,
    text={"vocab_size": 300, "width": 16, "depth": 1, "heads": 2},
    dtype=jnp.float32,
  )


def objective(**changes):
  return latent_diffusion.LatentDiffusion(
    **{
      "model": model(),
      "process": process.Process("rectified", "velocity"),
      "weight": process.WEIGHTS["velocity"],
      "times": process.TIMES["logit_normal"],
      "shift": lambda time, tokens: process.shift(time, tokens, 12, 0.5),
      "mixture": {name: 1 / len(PATTERNS) for name in PATTERNS},
      "text_dropout": 0.3,
      "clips": CLIPS,
      "frames": FRAMES,
      **changes,
    }
  )


@functools.cache
def params():
  """Random, with nothing at 0: the head would hide everything."""
  init = functools.partial(objective().init, jax.random.key(0))
  tree = nn.meta.unbox(jax.eval_shape(init, batch()))
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), tree
  )


@dataclasses.dataclass
class Stub:
  """A model that predicts `predict(packed)`."""

  predict: object

  def apply(self, variables, packed):
    del variables
    return self.predict(packed)


def oracle(p, x0):
  """The prediction of one who knows the data."""

  def predict(packed):
    video = packed.streams["video"]
    time = latent_diffusion.LatentDiffusion.spread(video, packed.levels)
    alpha, sigma = p.coefficients(time)
    noise = (video.tokens - alpha * x0) / jnp.maximum(sigma, 1e-6)
    return p.target_of(x0, noise, time)

  return Stub(predict)


def run(o, data, seed=0):
  loss, metrics = o.loss(params(), {}, data, jax.random.key(seed), 0)
  return loss, {k: v.compute() for k, v in metrics.items()}


@functools.cache
def trained():
  """Loss, metrics and gradients of the whole mixture, jitted."""

  def loss(params, data, rng):
    return objective().loss(params, {}, data, rng, jnp.int32(0))

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradients_are_finite(seed):
  data = batch()
  (loss, metrics), grads = trained()(params(), data, jax.random.key(seed))
  assert np.isfinite(loss) and loss > 0
  for name, g in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(g).all(), name
    assert np.abs(g).max() > 0, name
  # The mean is over noisy tokens: neither padding nor conditions dilute it.
  assert metrics["loss"].count == metrics["noisy"].total
  assert metrics["noisy"].count == (data["video_segments"] > 0).sum()
  metrics = {k: v.compute() for k, v in metrics.items()}
  assert metrics["loss"] == loss
  fill = (data["video_segments"] > 0).mean()
  np.testing.assert_allclose(metrics["fill"], fill, rtol=1e-6)
  assert 0.3 < metrics["noisy"] <= 1


def test_padding_does_not_count():
  data = batch()
  (before, _), _ = trained()(params(), data, jax.random.key(0))
  for name in ("video", "text"):
    empty = data[f"{name}_segments"] == 0
    data[name] = data[name].copy()
    data[name][empty] = 7
  (after, _), _ = trained()(params(), data, jax.random.key(0))
  np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("weight", process.WEIGHTS)
@pytest.mark.parametrize("target", process.TARGETS)
@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_perfect_prediction_has_zero_loss(schedule, target, weight):
  data = batch()
  p = process.Process(schedule, target)
  right = oracle(p, data["video"])
  wrong = Stub(lambda packed: right.predict(packed) + 1.0)
  changes = {
    "process": p,
    "weight": process.WEIGHTS[weight],
    # Away from where x0 cannot be told from the prediction.
    "times": lambda rng, shape: jax.random.uniform(rng, shape, maxval=0.95),
  }
  loss, _ = run(objective(model=right, **changes), data)
  assert loss < 1e-5
  loss, _ = run(objective(model=wrong, **changes), data)
  assert loss > 1e-2


def leveled(data, seed=0):
  """Streams of a batch with a time per frame, some known tokens, and noise.

  All depend on the clip's own data only, so that packing changes nothing.
  """
  segments, positions = data["video_segments"], data["video_positions"]
  key = data["video"][..., 0]
  known = (np.abs(key) > 1.5) & (segments > 0)
  level = 1 + (segments - 1) * FRAMES + positions[..., 0]
  level = np.where(known | (segments == 0), 0, level).astype(np.int32)
  levels = np.zeros((len(segments), 1 + CLIPS * FRAMES), np.float32)
  for r, row in enumerate(segments):
    for s in set(row) - {0}:
      start = 0.3 + 0.5 * abs(np.sin((row == s).sum() + seed))
      at = 1 + (s - 1) * FRAMES
      levels[r, at : at + FRAMES] = start - 0.1 * np.arange(FRAMES)
  noise = np.cos(50 * data["video"]).astype(np.float32)
  video = latent_diffusion.stream_of(data, "video", level)
  text = latent_diffusion.stream_of(data, "text")
  return video, text, levels, noise


@functools.cache
def token_loss():
  return jax.jit(objective().token_loss)


def test_packed_loss_is_the_token_weighted_mean():
  error, weight = token_loss()(params(), *leveled(batch()))
  packed = Mean.of(error * weight, weight > 0)
  apart = []
  for sequence in sequences():
    one = loader.rows_of([sequence], ROWS)
    error, weight = token_loss()(params(), *leveled(one))
    apart.append(Mean.of(error * weight, weight > 0))
  whole = functools.reduce(Mean.__or__, apart)
  assert packed.count == whole.count
  np.testing.assert_allclose(packed.compute(), whole.compute(), rtol=1e-5)
  # Not the mean of the clips' means, which would favour small clips.
  means = np.mean([m.compute() for m in apart])
  assert abs(means / whole.compute() - 1) > 1e-3


def test_known_tokens_and_padding_carry_no_loss():
  video, text, levels, noise = leveled(batch())
  known = (video.level == 0) & (video.segments > 0)
  assert known.any()

  def loss(prediction):
    o = objective(model=Stub(lambda packed: prediction))
    error, weight = o.token_loss({"dit": {}}, video, text, levels, noise)
    return Mean.of(error * weight, weight > 0).compute()

  grad = np.abs(jax.grad(loss)(jnp.zeros_like(noise))).max(axis=-1)
  silent = known | (video.segments == 0)
  assert (grad[silent] == 0).all()
  assert (grad[~silent] > 0).all()
  # Nor do they count in the mean.
  _, weight = token_loss()(params(), video, text, levels, noise)
  np.testing.assert_array_equal(weight > 0, ~silent)


def test_known_tokens_are_given_clean():
  seen = []
  o = objective(
    model=Stub(lambda p: seen.append(p) or p.streams["video"].tokens)
  )
  video, text, levels, noise = leveled(batch())
  o.token_loss({"dit": {}}, video, text, levels, noise)
  given = np.asarray(seen[0].streams["video"].tokens)
  clean = video.level == 0
  np.testing.assert_array_equal(given[clean], video.tokens[clean])
  assert (given[~clean] != video.tokens[~clean]).any(axis=-1).all()


def test_dropped_caption_is_the_empty_one():
  data, empty = batch(), batch([""] * len(CLIPS_OF))
  rng, outputs = jax.random.key(0), {}
  for name, dropout, rows in (
    ("dropped", 1.0, data),
    ("empty", 0.0, empty),
    ("shown", 0.0, data),
  ):
    o = objective(text_dropout=dropout)
    run = jax.jit(lambda p, d, o=o: o.loss(p, {}, d, rng, 0)[0])
    outputs[name] = run(params(), rows)
  np.testing.assert_allclose(outputs["dropped"], outputs["empty"], rtol=1e-6)
  assert abs(outputs["shown"] / outputs["empty"] - 1) > 1e-4


def test_dropped_caption_is_the_empty_one_to_the_bit():
  # One clip a row: BOS lies at the same place, and so do the sums.
  rows = dataclasses.replace(ROWS, clips=1)
  nothing = [""] * len(CLIPS_OF)
  shown, empty = (loader.rows_of(sequences(c), rows) for c in (None, nothing))
  video, text, levels, noise = leveled(shown)
  drop = np.ones((len(levels), CLIPS), bool)
  dropped = latent_diffusion.drop_text(text, drop)
  nothing = latent_diffusion.stream_of(empty, "text")
  np.testing.assert_array_equal(dropped.segments, nothing.segments)
  a, _ = token_loss()(params(), video, dropped, levels, noise)
  b, _ = token_loss()(params(), video, nothing, levels, noise)
  c, _ = token_loss()(params(), video, text, levels, noise)
  real = video.segments > 0
  np.testing.assert_array_equal(a[real], b[real])
  assert (a != c)[real].any()


def test_drop_text_drops_what_it_is_told():
  text = latent_diffusion.stream_of(batch(), "text")
  drop = np.array([[True, False], [False, True], [True, True]])
  after = latent_diffusion.drop_text(text, drop).segments
  for row, (old, new) in enumerate(zip(text.segments, np.asarray(after))):
    for segment in set(old) - {0}:
      left = np.flatnonzero(new == segment)
      own = np.flatnonzero(old == segment)
      gone = drop[row, segment - 1]
      np.testing.assert_array_equal(left, own[:1] if gone else own)
      assert text.tokens[row, left[0]] == tokenizer.BOS


def test_text_dropout_frequency():
  seen = []

  def predict(packed):
    seen.append(packed.streams["text"].segments)
    return packed.streams["video"].tokens

  data = {k: np.repeat(v[:1], 400, axis=0) for k, v in batch().items()}
  run(objective(model=Stub(predict), text_dropout=0.3), data)
  before = (data["text_segments"] == 1).sum(axis=1)
  left = (np.asarray(seen[0]) == 1).sum(axis=1)
  assert before[0] > 1 and set(left) == {1, before[0]}
  assert abs((left == 1).mean() - 0.3) < 0.08


def test_loss_at_is_deterministic_and_of_one_time():
  data, o = batch(), objective()
  at = jax.jit(lambda time, rng: o.loss_at(params(), data, time, rng))
  first, again = (at(0.5, jax.random.key(0)) for _ in range(2))
  np.testing.assert_array_equal(first.total, again.total)
  assert first.count == (data["video_segments"] > 0).sum()
  assert at(0.5, jax.random.key(1)).total != first.total
  assert at(0.9, jax.random.key(0)).total != first.total


@pytest.mark.parametrize("target", process.TARGETS)
@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_denoiser_of_a_perfect_model_finds_data_and_noise(schedule, target):
  data, p = batch(), process.Process(schedule, target)
  video, text, levels, noise = leveled(data)
  o = objective(model=oracle(p, data["video"]), process=p)
  xt = p.corrupt(data["video"], noise, o.spread(video, levels))
  x0, found = o.denoiser({"dit": {}}, video, text)(xt, levels)
  noisy = video.level > 0
  np.testing.assert_allclose(x0[noisy], data["video"][noisy], atol=1e-4)
  np.testing.assert_allclose(found[noisy], noise[noisy], atol=1e-4)
