"""Chunks and tiles are the whole, any size comes back, memory stays flat."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import autoencoder as ae
from sora_jax.models.causal_conv import STREAM
from sora_jax.objectives import streaming
from sora_jax.objectives.autoencode import Autoencode
from tests.conftest import BLOCKS, autoencoder, filled

COMPRESSION = (4, 8, 8)


@functools.cache
def made(kind="factored", compression=COMPRESSION):
  """(streaming autoencoder, frozen) with nothing at 0."""
  model = autoencoder(compression, channels=6, depth=2, **BLOCKS[kind])
  objective = Autoencode(model, "l2", {}, 1e-6, "pca", 0.0)
  frames = 1 + compression[0]
  video = jnp.zeros((1, frames, 16, 16, 3))
  params = filled(jax.eval_shape(model.init, jax.random.key(0), video))
  stats = {"mean": jnp.full(6, 0.1), "std": jnp.full(6, 1.5)}
  frozen = {"autoencoder": params["params"], "stats": stats}
  return streaming.Streaming(objective), frozen


def clip(frames, height=16, width=24, batch=1, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (batch, frames, height, width, 3), np.uint8)


def chunked(x, sizes):
  ends = np.cumsum(sizes)
  assert ends[-1] == x.shape[1]
  return np.split(x, ends[:-1], axis=1)


def random_sizes(total, rng):
  sizes = []
  while total:
    sizes.append(int(rng.integers(1, min(total, 9) + 1)))
    total -= sizes[-1]
  return sizes


@pytest.mark.parametrize(
  "compression", [(4, 8, 8), (4, 16, 16), (8, 8, 8), (1, 8, 8)]
)
@pytest.mark.parametrize("kind", BLOCKS)
def test_any_chunking_is_the_whole(kind, compression):
  stream, frozen = made(kind, compression)
  objective = stream.objective
  video = clip(1 + compression[0] * 4, width=32, batch=2)
  z = objective.encode(frozen["autoencoder"], frozen["stats"], video)
  decode = functools.partial(
    objective.model.apply, method="decode", mutable=[STREAM]
  )
  variables = {"params": frozen["autoencoder"]}
  floats, _ = decode(variables, z)
  assert floats.shape == video.shape
  frames = objective.decode(frozen["autoencoder"], frozen["stats"], z)
  rng = np.random.default_rng(0)
  for _ in range(4):
    parts = list(
      stream.encode(frozen, chunked(video, random_sizes(video.shape[1], rng)))
    )
    np.testing.assert_allclose(np.concatenate(parts, 1), z, atol=1e-5)
    sizes = random_sizes(z.shape[1], rng)
    out = np.concatenate(list(stream.decode(frozen, chunked(z, sizes))), 1)
    # Rounding to 8 bits may flip where the floats agree to 1e-5.
    assert np.abs(out.astype(int) - frames).max() <= 1
    assert (out != frames).mean() < 1e-3
    parts, past = [], {}
    for part in chunked(z, sizes):
      out, past = decode(variables | past, part, start=not past)
      parts.append(out)
    np.testing.assert_allclose(
      np.concatenate(parts, 1), floats, rtol=1e-5, atol=1e-5
    )


def test_the_end_is_filled_up_and_cropped():
  stream, frozen = made()
  video = clip(7)  # one frame, a group of four, and two that wait
  parts = list(stream.encode(frozen, chunked(video, (2, 5))))
  assert [p.shape[1] for p in parts] == [1, 1, 1]
  padded = np.concatenate([video, video[:, -1:], video[:, -1:]], axis=1)
  z = stream.objective.encode(frozen["autoencoder"], frozen["stats"], padded)
  np.testing.assert_allclose(np.concatenate(parts, 1), z, atol=1e-5)


@pytest.mark.parametrize(
  "size", [(1, 8, 8), (5, 16, 24), (6, 13, 17), (2, 3, 5)]
)
def test_every_size_comes_back(size):
  stream, frozen = made()
  video = clip(*size)
  out = stream.round_trip(frozen, video)
  assert out.shape == video.shape and out.dtype == np.uint8
  padded = streaming.pad(video, COMPRESSION)
  assert ae.latent_size(padded.shape[1:4], COMPRESSION)
  assert all(
    0 <= n - m < c for n, m, c in zip(padded.shape[1:4], size, COMPRESSION)
  )
  np.testing.assert_array_equal(streaming.crop(padded, size), video)
  np.testing.assert_array_equal(padded[:, -1, -1, -1], video[:, -1, -1, -1])
  # What divides is what it would be without padding.
  if padded.shape == video.shape:
    z = stream.objective.encode(frozen["autoencoder"], frozen["stats"], video)
    whole = stream.objective.decode(frozen["autoencoder"], frozen["stats"], z)
    np.testing.assert_array_equal(out, whole)


def test_an_empty_clip_is_an_error():
  with pytest.raises(ValueError, match=r"\(1, 0, 8, 8, 3\)"):
    streaming.pad(clip(0, 8, 8), COMPRESSION)


def test_another_dtype_or_axis_is_an_error_that_names_it():
  whole = clip(5, 8, 8)
  stream, frozen = made()
  with pytest.raises(ValueError, match=r"float32; need uint8 in 0\.\.255"):
    stream.objective.encode(
      frozen["autoencoder"], frozen["stats"], whole / np.float32(255)
    )
  with pytest.raises(ValueError, match=r"float32; need uint8 in 0\.\.255"):
    streaming.pad(whole / np.float32(255), COMPRESSION)
  with pytest.raises(ValueError, match="axis C has 2 channels; need 3"):
    streaming.pad(whole[..., :2], COMPRESSION)
  with pytest.raises(ValueError, match="which is 4 axes"):
    streaming.pad(whole[0], COMPRESSION)
  # One channel would otherwise spread over the statistics of all.
  with pytest.raises(ValueError, match=r"axis c has 1 channels; need .* 6"):
    list(stream.decode(frozen, [np.zeros((1, 2, 1, 1, 1), np.float32)]))
  with pytest.raises(ValueError, match="dtype int32; need floats"):
    list(stream.decode(frozen, [np.zeros((1, 2, 1, 1, 6), np.int32)]))


@pytest.mark.parametrize("kind", ["factored", "parity"])
@pytest.mark.parametrize("tile", [6, 8, 40])
def test_tiles_without_attention_have_no_seam(tile, kind):
  stream, frozen = made(kind=kind)
  rng = np.random.default_rng(0)
  z = rng.standard_normal((1, 2, 11, 17, 6)).astype(np.float32)
  whole = stream.objective.decode(frozen["autoencoder"], frozen["stats"], z)
  halo = stream.objective.model.halo
  assert halo == 2
  out = stream.decode_tiles(frozen, z, tile, 2 * halo + 1)
  assert np.abs(out.astype(int) - whole).max() <= 1
  assert (out != whole).mean() < 1e-3
  video = clip(5, 88, 136)
  z = stream.objective.encode(frozen["autoencoder"], frozen["stats"], video)
  tiles = stream.encode_tiles(frozen, video, tile, 2 * halo + 1)
  np.testing.assert_allclose(tiles, z, rtol=1e-5, atol=1e-5)
  odd = stream.encode_tiles(frozen, video[:, :4, :82, :131], tile, 5)
  assert odd.shape == z.shape  # padded to whole latents


def test_a_short_overlap_is_seen():
  """The halo is what it says: a cell less, and the result differs."""
  stream, frozen = made()
  z = np.random.default_rng(0).standard_normal((1, 1, 8, 17, 6))
  z = z.astype(np.float32)
  whole = stream.objective.decode(frozen["autoencoder"], frozen["stats"], z)
  out = stream.decode_tiles(frozen, z, 8, 2)
  assert (out != whole).mean() > 1e-3


def test_tiles_blend_what_they_disagree_on():
  """Of two tiles that say 0 and 1 the overlap is a ramp."""
  said = iter([0.0, 1.0])
  out = streaming.tiled(
    lambda x, corner: np.full((*x.shape[:-1], 1), next(said)),
    np.zeros((1, 1, 4, 12, 1)),
    tile=8,
    overlap=4,
    scale=(1, 1),
    halo=0,
  )
  np.testing.assert_allclose(
    out[0, 0, 0, :, 0], [0] * 4 + [0.125, 0.375, 0.625, 0.875] + [1] * 4
  )


@pytest.mark.parametrize("tile, overlap", [(4, 4), (4, -1), (0, 0)])
def test_tiles_that_do_not_advance(tile, overlap):
  with pytest.raises(ValueError, match=f"tile={tile}, overlap={overlap}"):
    streaming.tiled(
      None, np.zeros((1, 1, 9, 9, 1)), tile, overlap, (1, 1), halo=1
    )


PEAK = """
import json, resource, sys
import numpy as np
from tests.objectives.streaming_test import made
stream, frozen = made()
peaks = []
for seconds in (2, 20, 60):
  frames = 24 * seconds // 4
  chunks = (np.zeros((1, 6, 32, 32, 6), np.float32) for _ in range(frames // 6))
  shown = sum(v.shape[1] for v in stream.decode(frozen, chunks))
  peaks.append((shown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
print(json.dumps(peaks))
"""


def test_memory_does_not_grow_with_length():
  out = subprocess.run(
    [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True
  )
  (_, _), (short, before), (long, after) = json.loads(out.stdout)
  assert (short, long) == (477, 1437)
  more = (long - short) * 256 * 256 * 3  # bytes of the frames that came out
  assert (after - before) * 1024 < 0.1 * more
