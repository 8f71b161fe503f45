"""LPIPS against a definition in loops; files that are not what they should."""

import functools
import hashlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import signal

from sora_jax.models import perceptual


@functools.cache
def thin():
  """Parameters of the network's form with few channels."""
  rng = np.random.default_rng(0)
  before, blocks, linear = 3, [], []
  for block, width in zip(perceptual.BLOCKS, (2, 3, 2, 3, 2)):
    layers = []
    for _ in block:
      kernel = rng.standard_normal((3, 3, before, width)) * 0.6
      layers.append(
        {
          "kernel": kernel.astype(np.float32),
          "bias": 0.3 * rng.standard_normal(width).astype(np.float32),
        }
      )
      before = width
    blocks.append(layers)
    linear.append(rng.uniform(0, 1, width).astype(np.float32))
  return {"blocks": blocks, "linear": linear}


def pictures(seed, count=2, size=(18, 21)):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (count, *size, 3)).astype(np.float32)


def features(params, x):
  """Of one picture [H, W, 3], by the definition."""
  x = (x.astype(np.float64) - perceptual.SHIFT) / perceptual.SCALE
  out = []
  for k, block in enumerate(params["blocks"]):
    if k:
      h, w = (n // 2 for n in x.shape[:2])
      x = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).max((1, 3))
    for layer in block:
      planes = [
        sum(
          signal.correlate2d(x[..., i], layer["kernel"][..., i, o], "same")
          for i in range(x.shape[-1])
        )
        + layer["bias"][o]
        for o in range(len(layer["bias"]))
      ]
      x = np.maximum(np.stack(planes, -1), 0)
    out.append(x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-10))
  return out


def test_the_distance_is_its_definition():
  params, a, b = thin(), pictures(0), pictures(1)
  wanted = [
    sum(
      (((f - g) ** 2) @ w).mean()
      for f, g, w in zip(
        features(params, one), features(params, other), params["linear"]
      )
    )
    for one, other in zip(a, b)
  ]
  found = perceptual.distance(params, a, b)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)
  assert (np.asarray(found) > 1e-3).all()


def test_equal_pictures_are_at_no_distance_and_the_gradient_is_finite():
  params, a = thin(), pictures(0)
  np.testing.assert_array_equal(perceptual.distance(params, a, a), 0)
  black = np.zeros_like(a)
  slope = jax.grad(lambda x: perceptual.distance(params, x, a).sum())(black)
  assert np.isfinite(slope).all() and np.abs(slope).max() > 0


@pytest.mark.parametrize("shape", [(2, 8, 20, 3), (1, 18, 21, 3), (18, 21, 3)])
def test_pictures_of_other_shapes(shape):
  with pytest.raises(ValueError, match=r"at least 16 x 16"):
    perceptual.distance(thin(), np.zeros(shape), pictures(0))


def weights(**changes):
  """Arrays as the file has them; zeros are enough to be checked."""
  arrays = {
    name: np.zeros(shape, np.float32)
    for name, shape in perceptual.shapes().items()
  }
  return {k: v for k, v in (arrays | changes).items() if v is not None}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("lpips") / "weights.safetensors"
  arrays = weights()
  kernel = arrays["features.2.weight"]
  kernel[5, 7, 1, 2] = 3.0  # out, in, y, x
  arrays["lin1.model.1.weight"][0, 9] = 2.0
  save_file(arrays, path)
  return path


def test_a_file_is_read_with_its_axes_in_place(file):
  params = perceptual.load(file)
  assert params["blocks"][0][1]["kernel"][1, 2, 7, 5] == 3
  assert params["linear"][1][9] == 2
  count = sum(x.size for x in jax.tree.leaves(params))
  assert count == 14_714_688 + sum(perceptual.WIDTHS)  # VGG-16's features
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  for told in (digest, digest[:8].upper()):  # as some tools print it
    assert perceptual.load(file, told)["linear"][1][9] == 2


def test_what_is_no_such_file_says_so(file, tmp_path):
  with pytest.raises(ValueError, match=r"has the sha256 .*, wanted 00ff"):
    perceptual.load(file, "00ff")
  with pytest.raises(FileNotFoundError, match=r"none\.safetensors: give one"):
    perceptual.load(tmp_path / "none.safetensors")
  (tmp_path / "text").write_text("no tensors")
  with pytest.raises(ValueError, match="no safetensors file"):
    perceptual.load(tmp_path / "text")
  for name, array, message in (
    ("features.5.bias", None, r"features\.5\.bias is missing, .*\(128,\)"),
    ("lin0.model.1.weight", np.zeros((1, 3)), r"lin0.* is \(1, 3\), it must"),
  ):
    path = tmp_path / "other.safetensors"
    save_file(weights(**{name: array}), path)
    with pytest.raises(ValueError, match=message):
      perceptual.load(path)
