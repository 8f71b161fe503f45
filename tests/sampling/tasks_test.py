"""Tasks are data: what is known, where, and what they refuse."""

import numpy as np
import pytest

from sora_jax.models import autoencoder as ae
from sora_jax.sampling import tasks
from sora_jax.sampling.pipeline import Request
from sora_jax.sampling.tasks import KEPT, TASKS

SIZE, CHANNELS = (4, 3, 5), 2

# Task -> (latent frames to make, those that are known, and from which of the
# source's frames).
KNOWN = {
  "t2v": (4, (), ()),
  "t2i": (1, (), ()),
  "i2v": (4, (0,), (0,)),
  "extend": (4, (0, 1), (0, 1)),
  "interpolate": (4, (0, 3), (0, -1)),
}


def source_of(frames=4, size=SIZE[1:]):
  rng = np.random.default_rng(0)
  return rng.normal(size=(1, frames, *size, CHANNELS)).astype(np.float32)


def size_of(task):
  return (KNOWN[task][0], *SIZE[1:])


def test_the_table_of_this_test_is_whole():
  assert set(KNOWN) == set(TASKS)
  assert {task for task in KNOWN if KNOWN[task][1]} == set(KEPT)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("frames", [4, 6])
def test_known_frames_are_the_sources_bit_for_bit(task, frames):
  source = source_of(frames)
  canvas = TASKS[task](size_of(task), CHANNELS, source)
  _, at, of = KNOWN[task]
  mask = np.zeros((1, *size_of(task), 1), np.float32)
  mask[:, list(at)] = 1
  np.testing.assert_array_equal(canvas.mask, mask)
  assert canvas.known.shape == (1, *size_of(task), CHANNELS)
  for here, there in zip(at, of):
    np.testing.assert_array_equal(canvas.known[:, here], source[:, there])
  assert 0 < canvas.start <= 1


@pytest.mark.parametrize("task", TASKS)
def test_the_source_is_not_changed(task):
  source = source_of()
  TASKS[task](size_of(task), CHANNELS, source)
  np.testing.assert_array_equal(source, source_of())


@pytest.mark.parametrize("task", KEPT)
def test_a_missing_source_says_what_to_set(task):
  with pytest.raises(ValueError, match=rf"'{task}' .*set sample\.source"):
    TASKS[task](size_of(task), CHANNELS, None)


@pytest.mark.parametrize("task", KEPT)
def test_a_source_of_another_size_names_both(task):
  with pytest.raises(ValueError, match=rf"'{task}'.* 2x5 .*\s3x5"):
    TASKS[task](size_of(task), CHANNELS, source_of(size=(2, 5)))


@pytest.mark.parametrize("task", ["extend", "interpolate"])
def test_a_source_that_is_too_short_names_both(task):
  with pytest.raises(ValueError, match=rf"'{task}' .* at least 2 .* has 1"):
    TASKS[task](size_of(task), CHANNELS, source_of(frames=1))


def test_an_image_is_one_frame():
  with pytest.raises(ValueError, match=r"one frame, but 4"):
    TASKS["t2i"](SIZE, CHANNELS, None)


@pytest.mark.parametrize("task", ["i2v", "extend"])
def test_frames_from_given_on_are_not_known(task, model):
  """Perturbing the last given frame changes the canvas, the next does not."""
  ct, ch, cw = model.run.codec.model.compression
  start = tasks.given(task, ct)
  size = (1 + 3 * ct, 2 * ch, 2 * cw)
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, (*size, 3), np.uint8)

  def known(video):
    canvas = model.pipeline._canvas(
      model.frozen,
      Request("", size, task, video),
      ae.latent_size(size, (ct, ch, cw)),
    )
    return canvas.known * canvas.mask

  before = known(video)
  for frame, changes in ((start - 1, True), (start, False)):
    other = video.copy()
    other[frame:] = 255 - other[frame:]
    assert (known(other) != before).any() == changes
