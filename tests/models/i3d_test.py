"""I3D is PyTorch's, to rounding; files that are not what they should be."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from sora_jax.models import i3d
from tests.models import i3d_golden


def test_it_says_what_pytorch_says():
  wanted = np.array(json.loads(i3d_golden.PATH.read_text()))
  net = i3d.params(i3d_golden.made_up(i3d.shapes()))
  x = i3d.prepare(i3d_golden.clip())
  found = np.asarray(jax.jit(i3d.features)(net, x[None]))[0]
  assert found.shape == (i3d.CLASSES,) and wanted.std() > 0.1
  np.testing.assert_allclose(found, wanted, atol=2e-3 * wanted.std())


def test_a_file_is_read_by_the_names_of_pytorch(tmp_path):
  arrays = i3d_golden.made_up(i3d.shapes())
  path = tmp_path / "i3d.safetensors"
  save_file(arrays, path)
  net, wanted = i3d.load(path), i3d.params(arrays)
  jax.tree.map(np.testing.assert_array_equal, net, wanted)
  with pytest.raises(ValueError, match="sha256"):
    i3d.load(path, "0123")
  del arrays["Mixed_4d.b2b.bn.running_var"]
  save_file(arrays, path)
  with pytest.raises(ValueError, match=r"Mixed_4d\.b2b\.bn\.running_var is m"):
    i3d.load(path)
  with pytest.raises(FileNotFoundError, match=r"models/i3d\.py"):
    i3d.load(tmp_path / "none")


def test_sizes_that_it_cannot_take_are_named():
  with pytest.raises(ValueError, match=r"at least 9 frames"):
    i3d.features({}, np.zeros((1, 8, 224, 224, 3)))
  video = i3d.prepare(np.full((2, 30, 40, 3), 255, np.uint8))
  assert video.shape == (2, 224, 224, 3)
  np.testing.assert_allclose(video, 1.0, rtol=1e-5)
