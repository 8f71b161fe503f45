"""What a caption is to the transformer: token ids with coordinates.

The captions of several shots follow each other, each with the latent time at
which its shot begins. That, and not a separate mechanism, is how the model
knows which words are about which frames.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.tokenizer import Tokenizer
from sora_jax.packing import patchify
from sora_jax.types import Text, joined, shots_of


@dataclasses.dataclass(frozen=True)
class Words:
  """Captions to ids and coordinates.

  Attributes:
    tokenizer: of captions.
    max_tokens: of a clip's captions in all.
    ct: frames of a latent frame after the first.
  """

  tokenizer: Tokenizer
  max_tokens: int
  ct: int

  def __call__(self, text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [S] and coordinates int32 [S, 3] of a clip's text.

    Each shot's caption begins anew, with the token that begins every caption;
    a cut within a latent frame counts for the whole of it.

    Args:
      text: a caption, or (first frame, caption) for every shot.

    Raises:
      ValueError: for more than `max_tokens` tokens.
    """
    shots = shots_of(text)
    ids = self._ids(text)
    count = sum(map(len, ids))
    if count > self.max_tokens:
      raise ValueError(
        f"Caption {joined(text)[:60]!r}... has {count} tokens, more than "
        f"max_tokens={self.max_tokens}: raise text.max_tokens in the config."
      )
    at = [
      patchify.text_positions(len(some), self.time(first))
      for (first, _), some in zip(shots, ids)
    ]
    return np.concatenate(ids), np.concatenate(at)

  def fits(self, text: Text) -> bool:
    """Whether a text has no more than `max_tokens` tokens."""
    return sum(map(len, self._ids(text))) <= self.max_tokens

  def _ids(self, text: Text) -> list[np.ndarray]:
    """Of every shot."""
    return [self.tokenizer.encode(caption) for _, caption in shots_of(text)]

  def time(self, frame: int) -> int:
    """The latent time of a frame."""
    return -(-frame // self.ct)
