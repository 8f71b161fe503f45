"""The world as a source: pure, endless, the same scene at any size and rate."""

import hashlib
import pickle

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.data.world import sets
from sora_jax.data.world.nouns import UNITS

BASE = dict(count=50, test_count=20, fps=8.0, seed=0)

# sha256 of four clips of every test split at 17 x 32 x 32, pixels and captions.
PINNED = {
  "camera": "64e083984df44d4b",
  "composition": "2620410d3a8135fb",
  "digits": "e1bcdda1b0d55885",
  "motion": "429e758d761515da",
  "phenomena": "6913da53cb4cdc23",
  "shots": "80c176d59eaa1733",
  "simple": "b05e146dc1788f7d",
  "sound": "183fb763acbca8f9",
}


def world(name="simple", frames=9, height=32, width=32, **changes):
  return World(
    set=name, frames=frames, height=height, width=width, **{**BASE, **changes}
  )


@pytest.mark.parametrize("name", sorted(sets.SETS))
def test_clips_are_what_the_types_promise(name):
  source = world(name, frames=17, height=24, width=40, channels=1)
  for split in sets.SPLITS:
    clips = source.clips(split)
    assert len(clips) == (50 if split == "train" else 20)
    clip = clips[1]
    assert clip.video.dtype == np.uint8
    assert clip.video.shape == (17, 24, 40, 3)
    assert clip.audio.shape == (17 * 2000,)
    assert clip.audio.dtype == np.float32
    assert np.abs(clip.audio).max() <= 1
    again = pickle.loads(pickle.dumps(clips))[1]
    assert (again.video == clip.video).all()
    assert (again.audio == clip.audio).all()
    assert (again.text, again.key) == (clip.text, clip.key)


@pytest.mark.parametrize("name", sorted(sets.SETS))
def test_one_scene_at_two_sizes_and_two_rates(name):
  slow = world(name, frames=17, height=64, width=64).clips("train")[2]
  fast = world(name, frames=33, height=64, width=64, fps=16.0).clips("train")[2]
  small = world(name, frames=17).clips("train")[2]
  assert [s.text for s in slow.state.shots] == [
    s.text for s in fast.state.shots
  ]
  # A cut may fall between two frames of the slower clip.
  same = np.abs(fast.video[::2].astype(int) - slow.video).max()
  assert same <= 1
  shrunk = slow.video.reshape(17, 32, 2, 32, 2, 3).mean((2, 4))
  assert np.abs(shrunk - small.video).mean() < 4
  np.testing.assert_allclose(slow.state.position, small.state.position)
  np.testing.assert_allclose(slow.state.pixels, 2 * small.state.pixels)


def test_the_state_is_where_the_pixels_are():
  source = world("simple", frames=9, height=64, width=64)
  for clip in source.clips("train"):
    body = clip.state.shots[0].scene.bodies[0]
    if body.material != "rubber" or body.shape == "digit":
      continue
    chroma = np.ptp(clip.video.astype(float), axis=-1)  # backgrounds are grey
    total = chroma.sum((1, 2))
    at = np.arange(64) + 0.5
    found = np.stack(
      [
        (chroma.sum(2) * at).sum(1) / total,
        (chroma.sum(1) * at).sum(1) / total,
      ],
      axis=1,
    )
    np.testing.assert_allclose(found, clip.state.pixels[:, 0], atol=0.06)
    area = total / chroma.max() / (64 / UNITS) ** 2
    np.testing.assert_allclose(area, np.pi * body.radius**2, rtol=0.04)


def test_shots_have_captions_and_first_frames():
  for clip in world("shots", frames=25).clips("train"):
    starts, texts = zip(*clip.text)
    assert starts[0] == 0
    assert len(set(starts)) == len(starts)
    # A cut changes the picture more than any motion does.
    change = np.abs(np.diff(clip.video.astype(float), axis=0)).mean((1, 2, 3))
    cuts = [n - 1 for n in starts[1:]]
    rest = np.delete(change, cuts)
    assert change[cuts].min() > rest.max()
    assert all(texts)


def test_splits_and_indices_differ():
  source = world("composition")
  clips = [source.clips(s)[i] for s in sets.SPLITS for i in range(4)]
  videos = {hashlib.sha256(c.video.tobytes()).hexdigest() for c in clips}
  assert len(videos) == len(clips)
  assert len({c.key for c in clips}) == len(clips)
  other = world("composition", seed=1).clips("train")[0]
  assert (other.video != clips[0].video).any()


def test_an_image_is_a_clip_of_one_frame():
  clip = world("composition", frames=1).clips("train")[3]
  assert clip.video.shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(name="physic"), "set='physic'.*simple"),
    (dict(frames=0), "frames=0.*>= 1"),
    (dict(height=7), "height=7.*>= 8"),
    (dict(fps=0), "fps=0"),
    (dict(channels=3), "channels=3.*0, 1, 2"),
    (dict(length="tiny"), "length='tiny'.*short"),
    (dict(name="motion", frames=481), "'motion'.*60.00 s"),
    (dict(count=0), "count=0"),
  ],
)
def test_impossible_worlds_say_so(changes, message):
  with pytest.raises(ValueError, match=message):
    world(**changes)


def test_unknown_splits_and_indices_say_so():
  with pytest.raises(ValueError, match=r"'dev'.*train"):
    world().clips("dev")
  with pytest.raises(IndexError, match=r"0\.\.49"):
    world().clips("train")[50]


@pytest.mark.parametrize("name", sorted(sets.SETS))
def test_test_sets_are_pinned(name):
  """Changing these makes old results incomparable: raise the version then."""
  digest = hashlib.sha256()
  for split in sets.SPLITS[1:]:
    clips = world(name, frames=17).clips(split)
    for index in range(4):
      digest.update(clips[index].video.tobytes())
      digest.update(clips[index].caption.encode())
  assert digest.hexdigest()[:16] == PINNED[name]
