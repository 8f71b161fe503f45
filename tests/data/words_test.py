"""Words: ids and the latent times of their shots."""

import numpy as np
import pytest

from sora_jax.data import tokenizer
from sora_jax.data.words import Words
from sora_jax.packing import patchify

SHOTS = ((0, "a red ball"), (4, "a blue box"), (9, "a ball"))


@pytest.fixture(scope="module")
def words():
  return Words(tokenizer.train([c for _, c in SHOTS], 300), 40, ct=4)


def test_a_caption_is_one_shot_from_the_start(words):
  ids, at = words("a red ball")
  np.testing.assert_array_equal(ids, words.tokenizer.encode("a red ball"))
  np.testing.assert_array_equal(at, patchify.text_positions(len(ids)))


def test_shots_follow_each_other_at_the_latent_times_of_their_cuts(words):
  ids, at = words(SHOTS)
  parts = [words.tokenizer.encode(caption) for _, caption in SHOTS]
  np.testing.assert_array_equal(ids, np.concatenate(parts))
  # Frame 4 is the last of latent frame 1, frame 9 the first of latent frame 3.
  times = np.repeat([0, 1, 3], [len(part) for part in parts])
  np.testing.assert_array_equal(at[:, 0], times)
  # Within its shot each caption lies as it would alone.
  for time, part in zip((0, 1, 3), parts):
    alone = patchify.text_positions(len(part), time)
    np.testing.assert_array_equal(at[times == time], alone)


def test_all_shots_count(words):
  with pytest.raises(
    ValueError, match=r"'a red ball a blue box.*max_tokens=40"
  ):
    words(SHOTS * 8)
