"""I3D: what happens in a video (Carreira & Zisserman 2017), for Fréchet
distances (Unterthiner et al. 2018).

Inception-v1 inflated to three dimensions, trained to name 400 actions. Its
features are the 400 logits, as of the published Fréchet video distances. The
weights come from a file that the user has; nothing is downloaded. It is one
safetensors file with the names of the PyTorch port by AJ Piergiovanni
(`rgb_imagenet.pt` of pytorch-i3d):

  Conv3d_1a_7x7.conv3d.weight, Conv3d_1a_7x7.bn.{weight,bias,running_mean,
  running_var}, ..., Mixed_5c.b3b.*, logits.conv3d.{weight,bias}
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.models import weights
from sora_jax.types import Array, PyTree

SIDE = 224  # pixels of a frame
LEAST = 9  # frames, so that two are left to pool at the end
CLASSES = 400
EPSILON = 1e-3  # of batch normalisation

# What lies on the way, in order: a convolution's (name, in, out, kernel,
# stride), a pool's (window, stride), a module's (name, in, six widths).
CONV, POOL, MIXED = "conv", "pool", "mixed"
LAYERS = (
  (CONV, "Conv3d_1a_7x7", 3, 64, 7, 2),
  (POOL, (1, 3, 3), (1, 2, 2)),
  (CONV, "Conv3d_2b_1x1", 64, 64, 1, 1),
  (CONV, "Conv3d_2c_3x3", 64, 192, 3, 1),
  (POOL, (1, 3, 3), (1, 2, 2)),
  (MIXED, "Mixed_3b", 192, (64, 96, 128, 16, 32, 32)),
  (MIXED, "Mixed_3c", 256, (128, 128, 192, 32, 96, 64)),
  (POOL, (3, 3, 3), (2, 2, 2)),
  (MIXED, "Mixed_4b", 480, (192, 96, 208, 16, 48, 64)),
  (MIXED, "Mixed_4c", 512, (160, 112, 224, 24, 64, 64)),
  (MIXED, "Mixed_4d", 512, (128, 128, 256, 24, 64, 64)),
  (MIXED, "Mixed_4e", 512, (112, 144, 288, 32, 64, 64)),
  (MIXED, "Mixed_4f", 528, (256, 160, 320, 32, 128, 128)),
  (POOL, (2, 2, 2), (2, 2, 2)),
  (MIXED, "Mixed_5b", 832, (256, 160, 320, 32, 128, 128)),
  (MIXED, "Mixed_5c", 832, (384, 192, 384, 48, 128, 128)),
)


def _convolutions() -> Iterator[tuple[str, int, int, int]]:
  """Name, in, out and kernel of every convolution but the last."""
  for kind, *layer in LAYERS:
    if kind == CONV:
      yield tuple(layer[:4])
    elif kind == MIXED:
      name, size, (b0, b1a, b1b, b2a, b2b, b3b) = layer
      yield f"{name}.b0", size, b0, 1
      yield f"{name}.b1a", size, b1a, 1
      yield f"{name}.b1b", b1a, b1b, 3
      yield f"{name}.b2a", size, b2a, 1
      yield f"{name}.b2b", b2a, b2b, 3
      yield f"{name}.b3b", size, b3b, 1


def shapes() -> dict[str, tuple[int, ...]]:
  """Every array of the file, by its name there."""
  out = {}
  for name, before, after, kernel in _convolutions():
    out[f"{name}.conv3d.weight"] = (after, before, *[kernel] * 3)
    for part in ("weight", "bias", "running_mean", "running_var"):
      out[f"{name}.bn.{part}"] = (after,)
  out["logits.conv3d.weight"] = (CLASSES, 1024, 1, 1, 1)
  out["logits.conv3d.bias"] = (CLASSES,)
  return out


def load(path: str | os.PathLike[str], sha256: str = "") -> PyTree:
  """Reads and checks the weights, for `features`.

  Args:
    path: of the safetensors file.
    sha256: of the file, or its first digits; "" checks none.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: naming the hash, or the first array that differs.
  """
  what = "I3D, see models/i3d.py"
  return params(weights.read(path, sha256, shapes(), what))


def params(arrays: dict[str, np.ndarray]) -> PyTree:
  """The file's arrays as (kernel [t, h, w, in, out], bias) by convolution.

  Batch normalisation of a trained network is linear, and part of them.
  """
  out = {}
  for name, *_ in _convolutions():
    scale, shift, mean, variance = (
      arrays[f"{name}.bn.{part}"].astype(np.float64)
      for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale /= np.sqrt(variance + EPSILON)
    kernel = _kernel(arrays[f"{name}.conv3d.weight"]) * scale
    out[name] = np.float32(kernel), np.float32(shift - mean * scale)
  kernel = _kernel(arrays["logits.conv3d.weight"])
  out["logits"] = kernel, np.float32(arrays["logits.conv3d.bias"])
  return out


def _kernel(weight: np.ndarray) -> np.ndarray:
  return np.float32(weight).transpose(2, 3, 4, 1, 0)


def prepare(video: np.ndarray) -> Array:
  """A clip uint8 [T, H, W, 3] as `features` takes it, [T, 224, 224, 3].

  Both sides are scaled to the same, bilinearly and without a filter, as in
  published distances.
  """
  x = jnp.asarray(video, jnp.float32) / 127.5 - 1
  return jax.image.resize(x, (len(x), SIDE, SIDE, 3), "bilinear", False)


def features(net: PyTree, x: Array) -> Array:
  """Logits [B, 400], the mean over time.

  Args:
    net: from `load`.
    x: float [B, T, 224, 224, 3] in -1..1, T >= 9.
  """
  if x.ndim != 5 or x.shape[2:] != (SIDE, SIDE, 3) or x.shape[1] < LEAST:
    raise ValueError(
      f"clips of shape {x.shape}: I3D takes [B, T, {SIDE}, {SIDE}, 3] of at "
      f"least {LEAST} frames"
    )
  for kind, *layer in LAYERS:
    if kind == CONV:
      x = _unit(net, layer[0], x, layer[4])
    elif kind == POOL:
      x = _pool(x, *layer)
    else:
      x = _mixed(net, layer[0], x)
  window = (1, 2, 7, 7, 1)
  x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * 5, "VALID")
  kernel, bias = net["logits"]
  x = (x / np.prod(window)) @ kernel[0, 0, 0] + bias
  return x.mean(axis=(1, 2, 3))


def _unit(net: PyTree, name: str, x: Array, stride: int = 1) -> Array:
  kernel, bias = net[name]
  x = jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride,) * 3,
    padding="SAME",
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )
  return jax.nn.relu(x + bias)


def _pool(x: Array, window: tuple[int, ...], stride: tuple[int, ...]) -> Array:
  sizes = (1, *window, 1), (1, *stride, 1)
  return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *sizes, "SAME")


def _mixed(net: PyTree, name: str, x: Array) -> Array:
  """Four ways at once."""
  one = _unit(net, f"{name}.b0", x)
  two = _unit(net, f"{name}.b1b", _unit(net, f"{name}.b1a", x))
  three = _unit(net, f"{name}.b2b", _unit(net, f"{name}.b2a", x))
  four = _unit(net, f"{name}.b3b", _pool(x, (3, 3, 3), (1, 1, 1)))
  return jnp.concatenate([one, two, three, four], axis=-1)
