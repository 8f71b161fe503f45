"""Each defect is measured where it is, and is 0 where it is not."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.evaluators import sheet
from sora_jax.models import autoencoder as ae
from sora_jax.objectives import streaming
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.types import Clip
from tests.conftest import autoencoder, filled


def codec(spoil):
  """An autoencoder that does what it is told to float [B, T, H, W, 3]."""

  def round_trip(frozen, video):
    out = spoil(video.astype(float))
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)

  model = types.SimpleNamespace(compression=(4, 8, 8))
  objective = types.SimpleNamespace(model=model)
  return types.SimpleNamespace(round_trip=round_trip, objective=objective)


def clip(frames=9, side=32, level=100):
  return Clip(np.full((frames, side, side, 3), level, np.uint8), 8.0, "", "a")


def test_flicker_is_the_change_between_frames():
  def blink(video):
    return video + 3 * (np.arange(video.shape[1]) % 2)[:, None, None, None]

  assert sheet._flicker(codec(blink), None, [clip()]) == pytest.approx(3)
  assert sheet._flicker(codec(lambda v: v + 7), None, [clip()]) == 0
  # An image stands still too, and is repeated.
  assert sheet._flicker(codec(blink), None, [clip(1)]) == pytest.approx(3)


def test_a_grid_is_told_from_noise():
  def grid(video):
    lines = np.zeros(video.shape[2:4])
    lines[::8], lines[:, ::8] = 6, 6
    # Away from black and white, where half of it would be cut off.
    return 0.5 * video + 40 + lines[..., None]

  def noise(video):
    rng = np.random.default_rng(0)
    return 0.5 * video + 40 + rng.normal(0, 4, video.shape)

  shape = (9, 64, 64, 3)
  found = dict(sheet._flat(codec(grid), None, shape))
  assert found["flat/grid"] > 0.99
  assert found["flat/levels"] == pytest.approx(6 * 0.424, abs=0.1)
  found = dict(sheet._flat(codec(noise), None, shape))
  assert found["flat/grid"] < 0.05
  assert found["flat/levels"] == pytest.approx(4, abs=0.2)
  found = dict(sheet._flat(codec(lambda v: v + 5), None, shape))
  assert found["flat/levels"] == 0


class Leaky(ae.Autoencoder):
  """Sees the clip backwards."""

  def encode(self, video, start=True):
    return super().encode(video[:, ::-1], start)


class Differing(ae.Autoencoder):
  """Sees only a difference of neighbours' pixels at the end."""

  def encode(self, video, start=True):
    mean, logvar = super().encode(video, start)
    ahead = video[:, -1, 0, 0] - video[:, -1, 1, 0]
    return mean + ahead[:, None, None, None, :], logvar


def made(kind=ae.Autoencoder, matmul=None):
  model = autoencoder(
    (2, 4, 4), channels=3, kind=kind, logvar=-6.0, matmul=matmul
  )
  video = jnp.zeros((1, 3, 8, 8, 3))
  init = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), video))
  objective = Autoencode(model, "l2", {}, 1e-6, "pca", 0.0)
  frozen = {"autoencoder": filled(init["params"])}
  frozen["stats"] = objective.no_stats()
  return streaming.Streaming(objective), frozen


class Context:
  """As much as `Sheet` needs to look at borders."""

  def __init__(self, codec):
    self.autoencoder = codec.objective


@pytest.mark.parametrize("side", [16, 48])
def test_a_seam_is_seen_where_tiles_are_blended(side, monkeypatch):
  codec, frozen = made()
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, (3, side, side, 3), np.uint8)
  clips = [Clip(video, 8.0, "", "a")]
  judge = sheet.Sheet(Context(codec), clips=1, videos=0, tile=6)
  found = dict(judge._borders(codec, frozen, clips))
  assert found["chunks/levels"] <= 1
  assert found["tiles/error"] == pytest.approx(1, abs=0.01)
  # A decoder whose tiles disagree, in what is shown where they are blended.
  tiles = streaming.Streaming.decode_tiles

  def spoilt(self, frozen, z, tile, overlap):
    out = tiles(self, frozen, z, tile, overlap).astype(int)
    low, high = streaming.fade(overlap, self.objective.model.halo)
    at = streaming.starts(z.shape[3], tile, overlap)[1] * 4
    part = out[:, :, :, at + 4 * low : at + 4 * high]
    part += np.where(part < 128, 60, -60)
    return out.astype(np.uint8)

  monkeypatch.setattr(streaming.Streaming, "decode_tiles", spoilt)
  found = dict(judge._borders(codec, frozen, clips))
  assert abs(found["tiles/error"] - 1) > 0.03


@pytest.mark.parametrize("frames", [1, 4, 7])
def test_what_looks_ahead_leaks(frames):
  video = np.random.default_rng(0).integers(0, 256, (frames, 8, 8, 3), np.uint8)
  assert sheet.leak(*made(), video) == 0
  assert sheet.leak(*made(matmul=jnp.bfloat16), video) == 0
  assert sheet.leak(*made(Leaky), video) > 1e-3
  assert sheet.leak(*made(Differing), video) > 1e-3


def test_channels_that_say_nothing_are_counted():
  stream, frozen = made()
  rng = np.random.default_rng(0)
  clips = [
    Clip(rng.integers(0, 256, (3, 16, 16, 3), np.uint8), 8.0, "", str(k))
    for k in range(4)
  ]
  found = dict(sheet._latents(stream, frozen, clips))
  assert found["latents/used"] == 1
  assert 1 / 3 <= found["latents/rank"] <= 1 + 1e-6
  params = frozen["autoencoder"]
  for layer in ("linear_in", "enc_out"):
    kernel = np.array(params[layer]["kernel"])
    kernel[:, 1] = 0
    params[layer]["kernel"] = kernel
  less = dict(sheet._latents(stream, frozen, clips))
  assert less["latents/used"] == pytest.approx(2 / 3)
  nats = [less[f"channel {k:02d}/nats"] for k in range(3)]
  assert nats[1] < sheet.USED < min(nats[0], nats[2])
  assert sum(nats) == pytest.approx(less["latents/nats"])
  assert less["latents/nats"] < found["latents/nats"]
