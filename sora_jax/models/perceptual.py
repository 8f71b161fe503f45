"""LPIPS: how different two pictures look (Zhang et al. 2018, "The unreasonable
effectiveness of deep features as a perceptual metric").

With f_l the features of VGG-16 (Simonyan & Zisserman 2015) after the last
convolution of its block l, of unit length along the channels, and w_l >= 0,

  d(a, b) = sum_l mean_hw sum_c w_lc (f_lc(a) - f_lc(b))^2.

The weights come from a file that the user has; nothing is downloaded. It is one
safetensors file with the names of torchvision's `vgg16().features` and of the
linear layers of the package `lpips`:

  features.{0,2,5,7,10,12,14,17,19,21,24,26,28}.{weight,bias}
  lin{0,1,2,3,4}.model.1.weight
"""

from __future__ import annotations

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.models import weights
from sora_jax.types import Array, PyTree

BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)
# Of pixels in -1..1, by channel.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


def shapes() -> dict[str, tuple[int, ...]]:
  """Every array of the file, by its name there."""
  out, before = {}, 3
  for block, width in zip(BLOCKS, WIDTHS):
    for layer in block:
      out[f"features.{layer}.weight"] = (width, before, 3, 3)
      out[f"features.{layer}.bias"] = (width,)
      before = width
  for k, width in enumerate(WIDTHS):
    out[f"lin{k}.model.1.weight"] = (1, width, 1, 1)
  return out


def load(path: str | os.PathLike[str], sha256: str = "") -> dict[str, PyTree]:
  """Reads and checks the weights.

  Args:
    path: of the safetensors file.
    sha256: of the file, or its first digits; "" checks none.

  Returns:
    float32 arrays for `distance`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: naming the hash, or the first array that differs.
  """
  what = "VGG-16's features and the linear layers, see models/perceptual.py"
  arrays = weights.read(path, sha256, shapes(), what)
  return jax.tree.map(
    lambda x: np.ascontiguousarray(x, np.float32), _params(arrays)
  )


def abstract() -> PyTree:
  """What `load` gives, as shapes: nothing is read."""
  form = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
  arrays = {name: form(shape) for name, shape in shapes().items()}
  return jax.eval_shape(_params, arrays)


def _params(arrays: dict[str, Array]) -> dict[str, PyTree]:
  """The file's arrays as `distance` takes them: kernels [3, 3, in, out]."""
  blocks = [
    [
      {
        "kernel": arrays[f"features.{i}.weight"].transpose(2, 3, 1, 0),
        "bias": arrays[f"features.{i}.bias"],
      }
      for i in block
    ]
    for block in BLOCKS
  ]
  names = [f"lin{k}.model.1.weight" for k in range(len(BLOCKS))]
  linear = [arrays[name].ravel() for name in names]
  return {"blocks": blocks, "linear": linear}


def distance(params: PyTree, a: Array, b: Array) -> Array:
  """LPIPS of pictures.

  Args:
    params: from `load`.
    a: float [N, H, W, 3] in -1..1, H and W >= 16.
    b: likewise.

  Returns:
    float32 [N], 0 for equal ones.
  """
  if a.shape != b.shape or a.ndim != 4 or min(a.shape[1:3]) < 16:
    raise ValueError(
      f"pictures of shapes {a.shape} and {b.shape}; both must be the same "
      "[N, H, W, 3] of at least 16 x 16 pixels"
    )
  total = jnp.zeros(len(a))
  pairs = zip(_features(params, a), _features(params, b), params["linear"])
  for one, other, weight in pairs:
    total += (jnp.square(one - other) @ weight).mean((1, 2))
  return total


def _features(params: PyTree, x: Array) -> list[Array]:
  """Unit features of every block, [N, h, w, C] each."""
  x = (x.astype(jnp.float32) - jnp.array(SHIFT)) / jnp.array(SCALE)
  out = []
  for k, block in enumerate(params["blocks"]):
    if k:
      x = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
      )
    for layer in block:
      x = jax.lax.conv_general_dilated(
        x,
        layer["kernel"],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      x = jax.nn.relu(x + layer["bias"])
    # The small number keeps the gradient finite where nothing is active.
    length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-10)
    out.append(x / length)
  return out
