"""The tokenizer: lossless, deterministic, never silently cut."""

import os
import pickle

import numpy as np
import pytest

from sora_jax.data import tokenizer
from sora_jax.data.sources import digits

CAPTIONS = [
  digits.caption(digits.Attributes(digit, colour, motion, background), form)
  for digit in range(10)
  for colour in digits.COLOURS
  for motion in [*digits.MOTIONS, None]
  for background in digits.BACKGROUNDS
  for form in range(digits.FORMS)
]
TEXTS = [
  "a red three moves left on a black background",
  "Ünseen 🦊🎬 émoji, 日本語\n\ttabs  and  spaces ",
  "<bos> and <pad> are text here",
  "\x00 \x7f \u200d",
]


@pytest.fixture(scope="module")
def trained():
  return tokenizer.train(CAPTIONS, 320)


@pytest.mark.parametrize("text", ["", *TEXTS])
def test_round_trip_is_lossless(trained, text):
  ids = trained.encode(text)
  assert trained.decode(ids) == text
  assert ids.dtype == np.int32
  assert ids[0] == tokenizer.BOS
  assert not np.isin(ids[1:], [tokenizer.PAD, tokenizer.BOS]).any()
  assert ids.max() < trained.vocab_size


def test_empty_caption_is_bos_alone(trained):
  np.testing.assert_array_equal(trained.encode(""), [tokenizer.BOS])


def test_padding_decodes_to_nothing(trained):
  padded = np.pad(trained.encode(TEXTS[0]), (0, 5))
  assert trained.decode(padded) == TEXTS[0]


def test_merges_make_captions_short(trained):
  assert len(trained.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_training_is_deterministic(trained):
  again = tokenizer.train(iter(CAPTIONS), 320)
  assert again.json == trained.json
  assert again.hash == trained.hash
  assert len(trained.hash) == 12
  assert tokenizer.train(CAPTIONS, 300).hash != trained.hash


def test_vocab_size_is_a_bound(trained):
  assert trained.vocab_size == 320
  assert tokenizer.train(["ab"], 1000).vocab_size == tokenizer.MIN_VOCAB
  with pytest.raises(ValueError, match="vocab_size=257 must be >= 258"):
    tokenizer.train(CAPTIONS, 257)


def test_save_and_load(trained, tmp_path):
  path = tmp_path / "tokenizer.json"
  path.write_text("an older file")
  trained.save(path)
  assert os.listdir(tmp_path) == ["tokenizer.json"]
  copies = (tokenizer.load(path), pickle.loads(pickle.dumps(trained)))
  for copy in copies:
    assert copy.hash == trained.hash
    for text in TEXTS:
      np.testing.assert_array_equal(copy.encode(text), trained.encode(text))


def test_foreign_definition_is_refused(trained):
  foreign = trained.json.replace("<bos>", "<s>")
  with pytest.raises(ValueError, match="have ids"):
    tokenizer.Tokenizer(foreign)


def test_long_captions_are_refused_not_cut(trained):
  length = len(trained.encode(TEXTS[0]))
  assert len(trained.encode(TEXTS[0], max_tokens=length)) == length
  with pytest.raises(ValueError, match=f"{length} tokens.*max_tokens=3"):
    trained.encode(TEXTS[0], max_tokens=3)
