"""Transforms: shapes stay true, cuts stay in step, names are checked."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from sora_jax.data import buckets, transforms
from sora_jax.types import Clip

KWARGS = {
  "bucket": {"tokens": 64, "unit": (8, 8), "scales": (1.0, 0.25)},
  "cover": {"size": (24, 40)},
  "fit": {"size": (24, 40)},
  "trim": {"multiple": 4},
  "thin": {"most": 3},
  "crop": {"frames": 5, "height": 24, "width": 24, "zoom": 1.5},
  "flip": {"probability": 0.5},
  "turn": {"probability": 0.5},
  "recolour": {"probability": 0.5},
}


def rng(seed=0):
  return np.random.default_rng(seed)


def budget(tokens, scales=(1.0,)):
  return {"tokens": tokens, "unit": (8, 8), "scales": scales}


def noise(frames=9, height=40, width=72, **kwargs):
  video = rng(1).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
  return Clip(video, fps=8.0, text="a cat", key="k", **kwargs)


def disc(height, width):
  """A white disc in the middle of a black frame."""
  y, x = np.mgrid[:height, :width] + 0.5
  radius = np.hypot(y - height / 2, x - width / 2)
  # A soft edge, or odd and even sizes would differ by a pixel.
  level = (min(height, width) * 0.4 - radius + 0.5).clip(0, 1) * 255
  video = np.repeat(level[None, :, :, None], 3, axis=3)
  return Clip(video.round().astype(np.uint8), fps=8.0, text="a disc")


@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_each_is_pure_and_deterministic(name):
  clip = noise()
  before = clip.video.copy()
  apply = transforms.build([{"name": name, **KWARGS[name]}])
  a, b = apply(clip, rng(3)), apply(clip, rng(3))
  np.testing.assert_array_equal(a.video, b.video)
  np.testing.assert_array_equal(clip.video, before)
  assert a.video.dtype == np.uint8 and a.video.ndim == 4
  assert (a.text, a.key) == ("a cat", "k")
  assert a.fps == b.fps and (name == "thin" or a.fps == clip.fps)


@pytest.mark.parametrize("size", [(300, 500), (61, 97), (400, 130), (33, 32)])
def test_bucket_keeps_a_circle_round(size):
  clip = transforms.bucket(disc(*size), rng(), **budget(256))
  height, width = clip.video.shape[1:3]
  table = buckets.table(256, (8, 8))
  assert (height, width) == buckets.nearest(size, table)
  white = clip.video[0, :, :, 0] / 255
  # Extents to a fraction of a pixel: the profile through the centre.
  tall, wide = white[:, width // 2].sum(), white[height // 2].sum()
  assert tall == pytest.approx(wide, abs=0.75)
  scale = max(height / size[0], width / size[1])
  assert tall == pytest.approx(min(size) * 0.8 * scale, abs=1)
  # Still in the middle: what was cut was cut evenly.
  y, x = np.indices(white.shape) + 0.5
  for axis, extent in ((y, height), (x, width)):
    assert (axis * white).sum() / white.sum() == pytest.approx(
      extent / 2, abs=1
    )


@pytest.mark.parametrize("size", [(130, 150), (61, 97), (400, 130)])
def test_fit_cuts_nothing_off_and_keeps_a_circle_round(size):
  clip = transforms.fit(disc(*size), rng(), size=(64, 48))
  height, width = clip.video.shape[1:3]
  scale = min(64 / size[0], 48 / size[1])
  assert height == 64 or width == 48
  assert height <= 64 and width <= 48
  assert (height / scale, width / scale) == pytest.approx(
    size, abs=0.51 / scale
  )
  white = clip.video[0, :, :, 0] / 255
  tall, wide = white[:, width // 2].sum(), white[height // 2].sum()
  assert tall == pytest.approx(wide, abs=1.0)
  assert transforms.fit(clip, rng(), size=(64, 48)) is clip  # it is inside


def test_bucket_leaves_a_fitting_clip_alone():
  for height, width in buckets.table(64, (8, 8)):
    clip = noise(2, height, width)
    assert transforms.bucket(clip, rng(), **budget(64)) is clip


def test_each_clip_gets_one_of_the_scales():
  """And none is enlarged, unless even the smallest is larger than the clip."""

  def sizes(height, width):
    clip = noise(1, height, width)
    made = (
      transforms.bucket(clip, rng(i), **budget(64, (1.0, 0.25, 1 / 16)))
      for i in range(40)
    )
    return {clip.video.shape[1:3] for clip in made}

  assert sizes(100, 100) == {(64, 64), (32, 32), (16, 16)}
  assert sizes(40, 40) == {(32, 32), (16, 16)}
  assert sizes(9, 9) == {(16, 16)}


def test_bucket_is_antialiased():
  """A fine checkerboard becomes grey, not an alias of itself."""
  board = np.indices((256, 256)).sum(axis=0) % 2 * 255
  video = np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8)
  clip = Clip(video, 8.0, "")
  small = transforms.bucket(clip, rng(), **budget(81)).video
  assert small.shape == (1, 72, 72, 3)
  assert np.abs(small[:, 4:-4, 4:-4].astype(int) - 127).max() < 12


@pytest.mark.parametrize("frames", range(1, 12))
def test_trim_is_the_longest_that_fits(frames):
  length = len(transforms.trim(noise(frames, 8, 8), rng(), multiple=4).video)
  assert length % 4 == 1 and frames - 4 < length <= frames


def test_crop_takes_any_block_of_the_clip():
  clip, starts = noise(7, 12, 14), set()
  for seed in range(60):
    size = {"frames": 6, "height": 11, "width": 14, "zoom": 1.0}
    cut = transforms.crop(clip, rng(seed), **size).video
    assert cut.shape == (6, 11, 14, 3)
    places = [
      (t, y)
      for t in range(2)
      for y in range(2)
      if np.array_equal(cut, clip.video[t : t + 6, y : y + 11])
    ]
    assert len(places) == 1
    starts.update(places)
  assert len(starts) == 4
  same = transforms.crop(clip, rng(), frames=50, height=50, width=50, zoom=9.0)
  np.testing.assert_array_equal(same.video, clip.video)


def test_crop_scales_down_what_it_zooms_out_of():
  """A wide ramp: its slope says by how much, and nothing is distorted."""
  ramp = np.zeros((3, 96, 160, 3))
  ramp[..., 0] = np.arange(160)
  ramp[..., 1] = np.arange(96)[:, None] * 2
  clip = Clip(ramp.astype(np.uint8), 8.0, "a ramp")
  scales = []
  for seed in range(40):
    cut = transforms.crop(
      clip, rng(seed), frames=3, height=24, width=32, zoom=8.0
    )
    assert cut.video.shape == (3, 24, 32, 3) and cut.state is None
    inner = cut.video[0, 4:-4, 4:-4].astype(float)
    across = np.diff(inner[..., 0].mean(0)).mean()
    down = np.diff(inner[..., 1].mean(1)).mean() / 2
    assert abs(across / down - 1) < 0.05
    scales.append(across)
  assert 0.95 < min(scales) < 1.3 and 3.3 < max(scales) < 4.05  # of 96 / 24


@pytest.mark.parametrize("most", [1, 3])
def test_thin_keeps_the_time(most):
  clip = noise(13, 8, 8)
  clip = dataclasses.replace(clip, text=((0, "one"), (4, "two"), (12, "end")))
  seen = set()
  for seed in range(20):
    thinned = transforms.thin(clip, rng(seed), most=most)
    step = round(clip.fps / thinned.fps)
    np.testing.assert_array_equal(thinned.video, clip.video[::step])
    # Whatever is shown is shown with its own caption.
    shots = dict(thinned.text)
    for i in range(len(thinned.video)):
      at, own = i * step, max(b for b in shots if b <= i)
      assert shots[own] == ("one" if at < 4 else "two" if at < 12 else "end")
    seen.add(step)
  assert seen == set(range(1, most + 1))


def test_turn_takes_all_sixteen_ways():
  clip, seen = noise(3, 8, 8), set()
  ways = {
    one[::a, ::b, ::c].tobytes()
    for one in (clip.video, clip.video.swapaxes(1, 2))
    for a, b, c in itertools.product((1, -1), repeat=3)
  }
  generator = rng()
  for _ in range(200):
    seen.add(transforms.turn(clip, generator, probability=1.0).video.tobytes())
  assert len(ways) == 16 and seen == ways
  assert transforms.turn(clip, generator, probability=0.0) is clip


def test_recolour_orders_the_channels_anew():
  clip = noise(5, 8, 8)
  seen, generator = set(), rng()
  for _ in range(60):
    video = transforms.recolour(clip, generator, probability=1.0).video
    (order,) = (
      order
      for order in itertools.permutations(range(3))
      if (video == clip.video[..., list(order)]).all()
    )
    seen.add(order)
  assert seen == set(itertools.permutations(range(3))) - {(0, 1, 2)}
  assert transforms.recolour(clip, generator, probability=0.0) is clip


def test_flip_mirrors_as_often_as_asked():
  clip = noise(2, 8, 8)
  mirrored = transforms.flip(clip, rng(), probability=1.0).video
  np.testing.assert_array_equal(mirrored, clip.video[:, :, ::-1])
  assert transforms.flip(clip, rng(), probability=0.0) is clip
  generator = rng()
  count = sum(
    transforms.flip(clip, generator, probability=0.3) is not clip
    for _ in range(500)
  )
  assert 110 < count < 190


def test_shots_and_sound_are_cut_with_the_video():
  video = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1).repeat(3, axis=3)
  sound = np.repeat(np.arange(12), 100).astype(np.float32)
  text = ((0, "one"), (4, "two"), (8, "three"))
  clip = Clip(video, 8.0, text, audio=sound, rate=800)
  captions = dict.fromkeys(range(4), "one") | dict.fromkeys(range(4, 8), "two")
  captions |= dict.fromkeys(range(8, 12), "three")
  for seed in range(20):
    size = {"frames": 5, "height": 1, "width": 1, "zoom": 1.0}
    cut = transforms.crop(clip, rng(seed), **size)
    frames = cut.video[:, 0, 0, 0]
    np.testing.assert_array_equal(cut.audio, np.repeat(frames, 100))
    assert cut.text[0][0] == 0
    shot = dict(cut.text)
    for i, frame in enumerate(frames):
      begin = max(b for b in shot if b <= i)
      assert shot[begin] == captions[frame]
  cut = transforms.trim(clip, rng(), multiple=7)
  assert cut.text == ((0, "one"), (4, "two")) and len(cut.audio) == 800


def test_build_applies_in_order_and_pickles():
  specs = (
    {"name": "bucket", **budget(64)},
    {"name": "crop", "frames": 8, "height": 32, "width": 32, "zoom": 1.0},
    {"name": "trim", "multiple": 4},
  )
  apply = transforms.build(specs)
  assert apply(noise(), rng()).video.shape == (5, 32, 32, 3)
  again = pickle.loads(pickle.dumps(apply))
  np.testing.assert_array_equal(
    again(noise(), rng(5)).video, apply(noise(), rng(5)).video
  )
  clip = noise()
  assert transforms.build([])(clip, rng()) is clip


@pytest.mark.parametrize(
  "spec, message",
  [
    ({"name": "mirror"}, "unknown transform 'mirror', choose from .*'flip'"),
    ({"frames": 3}, "unknown transform None"),
    ({"name": "trim", "multiple": 4, "fast": 1}, "'fast'.*takes .*'multiple'"),
    ({"name": "crop", "frames": 4}, r"takes \['frames', 'height', 'width', "),
  ],
)
def test_build_refuses_what_it_does_not_know(spec, message):
  with pytest.raises(ValueError, match=message):
    transforms.build([spec])
