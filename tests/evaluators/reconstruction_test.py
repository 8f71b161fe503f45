"""What becomes of clips is judged frame by frame, whatever their size."""

import dataclasses
import functools
import hashlib
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from sora_jax.evaluators import context, metrics, reconstruction
from sora_jax.models import autoencoder as ae
from sora_jax.models import perceptual
from sora_jax.objectives.streaming import Streaming
from sora_jax.types import Clip
from sora_jax.utils import logs


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
  """A context of the autoencoder's stage, with clips of the digits set."""
  folder = tmp_path_factory.mktemp("reconstruction")
  return context.Context(
    stage="autoencoder",
    workdir=folder,
    writer=logs.MetricWriter(folder),
    autoencoder=model.run.codec,
    clips=model.run.data.clips("test"),
  )


def test_box_by_hand():
  """Two cells of 2 x 2 pixels: their means, rounded."""
  frame = np.array(
    [[0, 4, 10, 10], [8, 12, 10, 11]], np.uint8
  )  # means 6 and 10.25
  video = np.stack([frame, 2 * frame])[..., None].repeat(3, axis=-1)
  video[..., 1] = 7
  wanted = np.array([[6, 6, 10, 10]] * 2)
  found = reconstruction.box(video, 2, 2)
  np.testing.assert_array_equal(found[0, ..., 0], wanted)
  # Means 12 and 20.5, which rounds to the even number.
  np.testing.assert_array_equal(found[1, 0, :, 2], [12, 12, 20, 20])
  np.testing.assert_array_equal(found[..., 1], 7)
  assert found.shape == video.shape and found.dtype == np.uint8
  # Of a frame that does not divide the last boxes are smaller.
  odd = reconstruction.box(
    np.pad(video, [(0, 0), (0, 1), (0, 1), (0, 0)]), 2, 2
  )
  assert odd.shape == (2, 3, 5, 3)
  np.testing.assert_array_equal(odd[:, :2, :4], found)
  odd = reconstruction.box(video[:, :, :3], 2, 2)
  np.testing.assert_array_equal(odd[0, ..., 0], [[6, 6, 10]] * 2)


def test_clips_whose_size_does_not_divide_are_judged(model, made):
  clip = Clip(made.first(1)[0].video[:3, :13, :15], 8.0, "", "odd")
  odd = dataclasses.replace(made, clips=[clip])
  evaluator = reconstruction.Reconstruction(odd, 1, True, "", "")
  found = dict(evaluator.run(model.autoencoder))
  assert all(math.isfinite(value) for value in found.values())
  assert found["odd/psnr_box"] > 0


def test_the_box_baseline_is_what_reconstruction_reports(model, made):
  evaluator = reconstruction.Reconstruction(made, 3, False, "", "")
  found = dict(evaluator.run(model.autoencoder))
  _, height, width = model.run.codec.model.compression
  boxes = [
    metrics.psnr(reconstruction.box(c.video, height, width), c.video)
    for c in made.first(3)
  ]
  (key,) = (key for key in found if key.endswith("psnr_box"))
  assert found[key] == pytest.approx(np.mean(boxes))


def test_the_first_frame_stands_apart(model, made, monkeypatch):
  """In both scores, and no other frame is in it."""
  clip = made.first(1)[0]
  rng = np.random.default_rng(0)
  out = rng.integers(0, 256, (1, *clip.video.shape), np.uint8)
  out[0, 0] = clip.video[0] ^ 1
  monkeypatch.setattr(
    reconstruction.Streaming, "round_trip", lambda self, frozen, video: out
  )
  evaluator = reconstruction.Reconstruction(made, 1, False, "", "")
  found = dict(evaluator.run(model.autoencoder))
  for name in ("psnr", "ssim"):
    score = getattr(metrics, name)
    whole, first = score(out[0], clip.video), score(out[0, :1], clip.video[:1])
    assert found[f"mean/{name}"] == pytest.approx(whole, rel=1e-5)
    assert found[f"mean/{name}_first_frame"] == pytest.approx(first, rel=1e-5)
    assert first > 1.5 * whole


def test_lpips_is_told_of_the_weights_that_are_given(
  model, made, tmp_path, monkeypatch
):
  monkeypatch.setattr(perceptual, "WIDTHS", (2, 3, 2, 3, 2))  # a thin network
  path, rng = tmp_path / "vgg.safetensors", np.random.default_rng(0)
  arrays = {
    name: rng.uniform(0, 0.3, shape).astype(np.float32)
    for name, shape in perceptual.shapes().items()
  }
  save_file(arrays, path)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  judge = functools.partial(reconstruction.Reconstruction, made, 1, False)
  found = dict(judge(str(path), digest[:8]).run(model.autoencoder))
  video, codec = made.first(1)[0].video, Streaming(model.run.codec)
  out = codec.round_trip(model.frozen, video[None])[0]
  pair = (ae.from_uint8(x) for x in (video, out))
  wanted = jax.jit(perceptual.distance)(perceptual.load(path), *pair).mean()
  assert found["mean/lpips"] == pytest.approx(float(wanted), rel=1e-4) != 0
  # What is wrong is said before the training, and not after it.
  with pytest.raises(ValueError, match=r"has the sha256 .*, wanted 00ff"):
    judge(str(path), "00ff")
  with pytest.raises(FileNotFoundError, match="none"):
    judge(str(tmp_path / "none"), "")
