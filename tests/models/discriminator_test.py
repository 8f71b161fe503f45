"""The discriminator judges clips and images, evenly at every tone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import discriminator
from sora_jax.models.discriminator import Discriminator


def made(depth=3, width=8):
  model = Discriminator(width, depth, jnp.float32)
  init = model.init(jax.random.key(0), jnp.zeros((1, 5, 32, 32, 3)))
  return model, nn.meta.unbox(init)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_each_level_halves_space_and_all_but_the_first_time(depth, frames):
  model, variables = made(depth)
  video = jnp.zeros((2, frames, 32, 48, 3))
  logits = model.apply(variables, video)
  t = frames
  for _ in range(depth - 1):
    t = -(-t // 2)
  assert logits.shape == (2, t, 32 // 2**depth, 48 // 2**depth)
  assert logits.dtype == jnp.float32
  mask = jnp.ones((2, frames, 32, 48, 1))
  assert model.seen(mask).shape == logits.shape


def test_cells_without_data_are_told():
  model, _ = made(2)
  mask = np.ones((2, 5, 16, 16, 1), np.float32)
  mask[0, :, 8:], mask[1, 1:] = 0, 0
  seen = np.asarray(model.seen(mask))  # [2, 3, 4, 4]
  np.testing.assert_array_equal(seen[0, :, :2], 1)
  np.testing.assert_array_equal(seen[0, :, 2:], 0)
  np.testing.assert_array_equal(seen[1, 0], 1)
  np.testing.assert_array_equal(seen[1, 1:], 0)


def test_the_slope_on_flat_grey_is_that_on_flat_black():
  """A norm would divide by almost nothing there."""
  model, variables = made()

  def slope(tone):
    flat = jnp.full((1, 5, 32, 32, 3), tone / 127.5 - 1)
    flat = flat.at[:, :, 8:16, 8:16].set(jnp.array([0.8, -0.7, -0.7]))
    grad = jax.grad(lambda x: model.apply(variables, x).sum())(flat)
    return float(jnp.square(grad).mean())

  assert 0.1 < slope(127) / slope(0) < 10


@pytest.mark.parametrize("strides", [(1, 2, 2), (2, 2, 2), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("size", [(5, 9, 8), (1, 6, 5), (4, 3, 7)], ids=str)
def test_both_ways_to_convolve_are_one_function(size, strides):
  window = (3, 3, 3) if strides == (1, 1, 1) else (3, 4, 4)
  x, kernel = (
    jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate(((2, *size, 3), (*window, 3, 5)))
  )

  def found(convolved):
    """The result, and gradients of a penalty on its gradient."""

    def penalty(x, kernel):
      def total(x):
        return jnp.tanh(convolved(x, kernel, strides)).sum()

      return jnp.square(jax.grad(total)(x)).sum()

    grads = jax.grad(penalty, argnums=(0, 1))(x, kernel)
    return convolved(x, kernel, strides), *grads

  for a, b in zip(found(discriminator.volume), found(discriminator.matmul)):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * abs(a).max())
