"""The digits source: determinism, disjoint splits, smooth whole motion."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.data.sources import digits

BASE = {
  "count": 64,
  "frames": 9,
  "height": 32,
  "width": 32,
  "fps": 8.0,
  "seed": 0,
}
SHAPES = [(9, 32, 32), (9, 64, 64), (5, 16, 16), (9, 32, 80), (9, 48, 24)]


def source(**changes):
  return digits.Digits(**BASE | changes)


def centroids(clip):
  """Centroid (y, x) of what differs from the background, float [T, 2]."""
  video = clip.video.astype(float)
  ink = np.linalg.norm(video - video[0, 0, 0], axis=-1)
  return np.array([ndimage.center_of_mass(frame) for frame in ink])


@pytest.mark.parametrize("frames, height, width", SHAPES)
def test_clip_is_what_types_promises(frames, height, width):
  config = source(frames=frames, height=height, width=width)
  clips = config.clips("train")
  assert len(clips) == 64
  assert len(config.clips("test")) == 256
  clip = clips[17]
  assert clip.video.shape == (frames, height, width, 3)
  assert clip.video.dtype == np.uint8
  assert clip.fps == 8.0
  assert clip.key == "digits/train/000017"


def test_same_config_split_and_index_give_the_same_bytes():
  first, again = source().clips("train"), source().clips("train")
  backwards = {i: again[i] for i in reversed(range(len(again)))}
  for i, clip in enumerate(first):
    assert clip.video.tobytes() == backwards[i].video.tobytes()
    assert clip.text == backwards[i].text
  copy = pickle.loads(pickle.dumps(first))
  assert copy[5].video.tobytes() == first[5].video.tobytes()


def test_count_does_not_change_a_clip():
  few, many = source(count=6).clips("train"), source(count=600).clips("train")
  assert few[5].video.tobytes() == many[5].video.tobytes()


def test_seeds_splits_and_indexes_give_different_clips():
  clips = [
    source(seed=seed).clips(split)[index].video.tobytes()
    for seed in (0, 1)
    for split in digits.SPLITS
    for index in range(20)
  ]
  assert len(set(clips)) == len(clips)


def test_splits_share_no_digit_image():
  (train, labels), (test, _) = map(digits.glyphs, digits.SPLITS)
  assert len(train) + len(test) == 1797
  assert set(labels) == set(range(10))
  assert not {g.tobytes() for g in train} & {g.tobytes() for g in test}


def test_every_attribute_occurs_evenly():
  clips = source(count=3000).clips("train")
  seen = [clips.attributes(i) for i in range(len(clips))]
  sizes = {"digit": 10, "colour": 6, "motion": 5, "background": 3}
  for name, size in sizes.items():
    _, counts = np.unique([getattr(a, name) for a in seen], return_counts=True)
    assert len(counts) == size
    np.testing.assert_allclose(counts / 3000, 1 / size, rtol=0.25)


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("split", digits.SPLITS)
def test_caption_says_the_truth(split, frames):
  clips = source(frames=frames).clips(split)
  for i, clip in enumerate(clips):
    assert digits.parse(clip.text) == clips.attributes(i)
  assert (clips.attributes(0).motion is None) == (frames == 1)


def test_parse_inverts_caption_for_all_combinations():
  combinations = itertools.product(
    range(10), digits.COLOURS, [*digits.MOTIONS, None], digits.BACKGROUNDS
  )
  texts = set()
  for values in combinations:
    attributes = digits.Attributes(*values)
    for form in range(digits.FORMS):
      text = digits.caption(attributes, form)
      texts.add(text)
      assert digits.parse(text) == attributes
  assert len(texts) == 10 * 6 * 6 * 3 * digits.FORMS


def test_captions_read_as_documented():
  three = digits.Attributes(3, "red", "left", "black")
  still = dataclasses.replace(three, motion="still")
  image = dataclasses.replace(three, motion=None)
  says = digits.caption
  assert says(three) == "a red three moves left on a black background"
  assert says(three, 1) == "on a black background, a red three moves left"
  assert says(still) == "a red three stays still on a black background"
  assert says(image) == "a red three on a black background"


@pytest.mark.parametrize(
  "text, named",
  [
    ("a red moves left on a black background", "0 digits"),
    ("a red three and a four on a black background", "2 digits"),
    ("a pink three on a black background", "0 colours"),
    ("a red three moves left and up on black", "2 motions"),
    ("a red three", "0 backgrounds"),
  ],
)
def test_parse_refuses_other_captions(text, named):
  with pytest.raises(ValueError, match=named):
    digits.parse(text)


@pytest.mark.parametrize("frames, height, width", SHAPES)
def test_motion_is_smooth_straight_and_far(frames, height, width):
  clips = source(frames=frames, height=height, width=width).clips("train")
  for i, clip in enumerate(clips):
    track = centroids(clip)
    # Whole-pixel positions would show second differences of a pixel.
    assert np.abs(np.diff(track, 2, axis=0)).max() < 0.03
    direction = np.array(digits.MOTIONS[clips.attributes(i).motion])
    travel = (track[-1] - track[0]) / clip.video.shape[1:3]
    assert np.abs(travel[direction == 0]).max() < 0.001
    if direction.any():
      least = digits.MIN_TRAVEL if min(height, width) >= 32 else 0.25
      assert travel @ direction > 0.99 * least


@pytest.mark.parametrize("frames, height, width", SHAPES)
def test_the_whole_digit_stays_inside(frames, height, width):
  clips = source(frames=frames, height=height, width=width).clips("train")
  for clip in clips:
    ink = np.abs(clip.video.astype(float) - clip.video[0, 0, 0]).sum((1, 2, 3))
    assert np.ptp(ink) < 0.01 * ink.mean()  # cut ink would be missing
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    edge = clip.video[:, border].astype(int) - clip.video[0, 0, 0]
    assert np.abs(edge).max() < 12


def test_drawing_keeps_ink_and_place():
  glyph = digits.glyphs("train")[0][0]
  centres = np.array([[20.0, 20.0], [20.25, 19.5]])
  cover = digits.draw(glyph, centres, 1.5, 40, 40)
  assert cover.min() >= 0
  assert cover.max() <= 1
  np.testing.assert_allclose(cover.sum((1, 2)), glyph.sum() * 1.5**2, rtol=0.01)
  first, second = map(ndimage.center_of_mass, cover)
  np.testing.assert_allclose(
    np.subtract(second, first), [0.25, -0.5], atol=0.02
  )


@pytest.mark.parametrize("index", [-1, 64])
def test_index_out_of_range(index):
  clips = source().clips("train")
  for access in (clips.__getitem__, clips.attributes):
    with pytest.raises(IndexError, match=r"0\.\.63"):
      access(index)


def test_unknown_split_names_the_valid_ones():
  with pytest.raises(ValueError, match=r"'val'.*train, test"):
    source().clips("val")


@pytest.mark.parametrize(
  "key, value",
  [
    ("count", 0),
    ("frames", 0),
    ("height", 15),
    ("width", 8),
    ("fps", 0),
    ("fps", float("nan")),
    ("seed", -1),
    ("test_count", 0),
  ],
)
def test_impossible_values_are_refused(key, value):
  with pytest.raises(ValueError, match=f"{key}={value}.*must be"):
    source(**{key: value})
