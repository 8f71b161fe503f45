"""Byte-level byte-pair encoding of captions (Sennrich et al. 2016, GPT-2).

Every byte is in the vocabulary, so nothing is ever unknown and decoding gives
back any text exactly. Ids: 0 is padding, 1 begins every caption (so the empty
one, which guidance needs, is one token), 2..257 are the bytes, then merges.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

PAD, BOS = 0, 1
SPECIAL = ("<pad>", "<bos>")  # in the order of their ids
MIN_VOCAB = len(SPECIAL) + 256


class Tokenizer:
  """Captions to token ids and back; immutable, picklable.

  Attributes:
    json: the definition, as the `tokenizers` library writes it.
  """

  def __init__(self, json: str):
    """A tokenizer from its definition.

    Raises:
      ValueError: when `PAD` and `BOS` are not where this module puts them.
    """
    self.json = json
    self._core = tokenizers.Tokenizer.from_str(json)
    ids = tuple(self._core.token_to_id(token) for token in SPECIAL)
    if ids != (PAD, BOS):
      raise ValueError(
        f"Tokens {SPECIAL} have ids {ids}, not {(PAD, BOS)}: make the file "
        "with tokenizer.train(...).save(path)."
      )
    # A caption that contains the letters "<bos>" is text, not a command.
    self._core.encode_special_tokens = True

  def __reduce__(self):
    return Tokenizer, (self.json,)

  @property
  def vocab_size(self) -> int:
    """Number of ids; at most what `train` was asked for."""
    return self._core.get_vocab_size()

  @property
  def hash(self) -> str:
    """Identity of the definition, 12 hexadecimal digits."""
    return hashlib.sha256(self.json.encode()).hexdigest()[:12]

  def encode(self, text: str, max_tokens: int | None = None) -> np.ndarray:
    """Token ids, int32 [S], beginning with `BOS`; never cut.

    Raises:
      ValueError: for a caption of more than `max_tokens` tokens.
    """
    ids = [BOS, *self._core.encode(text).ids]
    if max_tokens is not None and len(ids) > max_tokens:
      raise ValueError(
        f"Caption {text[:60]!r}... has {len(ids)} tokens, more than "
        f"max_tokens={max_tokens}: raise text.max_tokens in the config."
      )
    return np.array(ids, np.int32)

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    """The text of token ids [S]; `PAD` and `BOS` say nothing."""
    return self._core.decode([int(i) for i in ids])

  def save(self, path: str | os.PathLike) -> None:
    """Writes the definition; a reader sees the old file or the new one."""
    partial = f"{os.fspath(path)}.{os.getpid()}.tmp"
    with open(partial, "w", encoding="utf-8") as file:
      file.write(self.json)
    os.replace(partial, path)


def train(captions: Iterable[str], vocab_size: int) -> Tokenizer:
  """Learns merges from captions; the same captions give the same ids.

  Args:
    captions: the training split's captions.
    vocab_size: ids at most, >= 258; fewer when the captions have no more pairs
      that occur twice.
  """
  if vocab_size < MIN_VOCAB:
    raise ValueError(
      f"vocab_size={vocab_size} must be >= {MIN_VOCAB}: "
      f"{len(SPECIAL)} special tokens and 256 bytes."
    )
  core = tokenizers.Tokenizer(models.BPE())
  core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  core.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    min_frequency=2,
    special_tokens=list(SPECIAL),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  core.train_from_iterator(captions, trainer)
  return Tokenizer(core.to_str())


def load(path: str | os.PathLike) -> Tokenizer:
  """Reads what `Tokenizer.save` wrote."""
  with open(path, encoding="utf-8") as file:
    return Tokenizer(file.read())
