"""Features of a fixed random network: a video's statistics, self-contained.

Random convolutions tell textures, edges and movements apart without having
learned any (Saxe et al. 2011; Ulyanov et al. 2018), so a Fréchet distance of
their responses needs no weights from elsewhere and is the same for everybody.
It sees sharpness, layout and motion, and no meaning.

Four convolutions over time and space, each halving the frame, with leaky
rectifiers. Every kernel has mean zero, so that flat surfaces say nothing, and
half of them have it at every place along time, so that stills say nothing
either: otherwise the background is all that the features see, and a distance
of them finds frames in random order as good as a video. The features are the
root mean squares of all responses.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.types import Array
from sora_jax.utils import tree

WIDTHS = (16, 16, 16, 16)
SIZE = sum(WIDTHS)  # of the features
SLOPE = 0.2
SCALE = 10.0  # of the features
# Of the weights. They are drawn anew everywhere; were they ever others, no
# figure could be compared with an earlier one.
DIGEST = "653da30b0908"


@functools.cache
def kernels() -> tuple[np.ndarray, ...]:
  """The weights, [3, 3, 3, in, out] each.

  Raises:
    RuntimeError: if the generator gives others than it did.
  """
  rng, out, before = np.random.Generator(np.random.PCG64(0)), [], 3
  for width in WIDTHS:
    # Integers are the same on every platform; normal numbers may not be.
    drawn = rng.integers(-128, 128, (3, 3, 3, before, width)) / 128
    drawn -= drawn.mean(axis=(0, 1, 2), keepdims=True)
    drawn[..., ::2] -= drawn[..., ::2].mean(axis=0, keepdims=True)
    gain = np.sqrt(6 / (1 + SLOPE**2) / (27 * before))
    out.append(np.float32(gain * drawn))
    before = width
  found = tree.digest(out)
  if found != DIGEST:
    raise RuntimeError(
      f"the random features' weights have the digest {found}, not {DIGEST}: "
      "this NumPy draws other numbers, and figures would not compare"
    )
  return tuple(out)


def prepare(video: np.ndarray) -> Array:
  """A clip uint8 [T, H, W, 3] as `features` takes it."""
  return jnp.asarray(video, jnp.float32) / 127.5 - 1


def features(net: tuple[Array, ...], x: Array) -> Array:
  """Features [B, 64] of clips.

  Args:
    net: `kernels()`.
    x: float [B, T, H, W, 3] in -1..1, any T; H and W >= 16.
  """
  if x.ndim != 5 or x.shape[-1] != 3 or min(x.shape[2:4]) < 16:
    raise ValueError(
      f"clips of shape {x.shape}: need [B, T, H, W, 3] of 16 pixels or more"
    )
  said, edge = [], [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]
  for kernel in net:
    x = jax.lax.conv_general_dilated(
      jnp.pad(x, edge, mode="edge"),  # zeros would be an edge, and a movement
      kernel,
      window_strides=(1, 2, 2),
      padding="VALID",
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    said.append(jnp.sqrt(jnp.square(x).mean(axis=(1, 2, 3)) + 1e-6))
    x = jax.nn.leaky_relu(x, SLOPE)
  return SCALE * jnp.concatenate(said, axis=-1)
