"""The packed spacetime diffusion transformer.

DiT (Peebles & Xie 2023) over rows of packed tokens: video patches and text
ride in one joint attention; adaLN-zero modulation is computed for the K noise
levels of a row and gathered by each token; positions are rotary over (t, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.models.text_encoder import TextEncoder
from sora_jax.types import Array, Packed
from sora_jax.utils import axes

# name -> what the backward pass may keep of a block; None switches remat off
REMAT: dict[str, Callable | None] = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(layers.OPERAND),
  ),
}


# Who computes shift, scale and gate from a noise level: every block for itself
# (DiT), or one for all, to which each adds its own constants (PixArt-alpha,
# Chen et al. 2023): a third of the parameters less.
MODULATION = ("block", "single")


class Block(nn.Module):
  """adaLN-zero block: x + gate * f(norm(x) * (1 + scale) + shift), twice."""

  heads: int
  mlp: int
  attention: str
  clips: int
  modulation: str
  dtype: Any
  matmul: Any
  tubes: int

  @nn.compact
  def __call__(self, x, by_level, level, place):
    """x [R, L, D], by_level [R, K, D] or, of one for all, [R, K, 6 D].

    Returns (x, None): the (carry, output) form that nn.scan wants.
    """
    x = axes.constrain(x, "rows", "length", None)
    modulate = self._modulate(by_level, x.shape[-1])  # [R, K, 6 D]
    modulation = layers.gather(modulate, level)  # [R, L, 6 D]
    modulation = axes.constrain(modulation, "rows", "length", None)
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(
      modulation, 6, axis=-1
    )
    attend = layers.Attention(
      self.heads,
      self.attention,
      self.clips,
      self.dtype,
      self.matmul,
      self.tubes,
      name="attention",
    )
    h = layers.layer_norm(x) * (1 + scale1) + shift1
    x = x + gate1 * attend(h, place)
    h = layers.layer_norm(x) * (1 + scale2) + shift2
    perceptron = layers.Mlp(self.mlp, self.dtype, self.matmul, name="mlp")
    return x + gate2 * perceptron(h), None

  def _modulate(self, by_level, width):
    if self.modulation == "block":
      return modulation(width, self.dtype)(by_level)
    own = self.param(
      "modulation",
      nn.with_logical_partitioning(layers.zeros, (None,)),
      (6 * width,),
    )
    return by_level + own.astype(self.dtype)


def modulation(width: int, dtype: Any) -> Callable[[Array], Array]:
  """[R, K, D] -> [R, K, 6 D] within a module: all zero at first."""
  dense = layers.Dense(
    6 * width,
    ("embed", None),
    init=layers.zeros,
    dtype=dtype,
    name="modulation",
  )
  return lambda by_level: dense(jax.nn.silu(by_level))


class DiT(nn.Module):
  """Predicts the diffusion target of every video token.

  Attributes:
    patch_size: P, length of a video token and of the prediction.
    width: D.
    depth: number of blocks.
    heads: attention heads; width must be a multiple.
    mlp: hidden width of the blocks' perceptrons.
    attention: key of ATTENTION.
    clips: the most clips of a row.
    modulation: one of MODULATION.
    rope_base: base of the rotary frequencies.
    remat: key of REMAT.
    scan: compile one block and scan it over depth, instead of unrolling.
    text: keyword arguments of TextEncoder other than the shared ones.
    dtype: of the activations; parameters are float32.
    matmul: that the operands of the blocks' matmuls are rounded to, which sum
      in float32; None for `dtype`.
    tubes: how many heads of each block at first look along time, at their own
      place; see `layers.Attention`.
  """

  patch_size: int
  width: int
  depth: int
  heads: int
  mlp: int
  attention: str
  clips: int
  modulation: str
  rope_base: float
  remat: str
  scan: bool
  text: Any
  dtype: Any
  matmul: Any = None
  tubes: int = 0

  @nn.compact
  def __call__(self, packed: Packed) -> Array:
    """Prediction float32 [R, L, P] for the tokens of the video stream."""
    video, text = packed.streams["video"], packed.streams["text"]
    for stream in (video, text):
      chex.assert_equal_shape(
        [stream.segments, stream.level, stream.positions[..., 0]]
      )
    chex.assert_shape(video.tokens, (*video.segments.shape, self.patch_size))
    chex.assert_equal_shape([text.tokens, text.segments])
    length = video.tokens.shape[1]

    x = layers.Dense(
      self.width, (None, "embed"), dtype=self.dtype, name="patch"
    )(video.tokens)  # [R, L, D]
    words = TextEncoder(
      attention=self.attention,
      clips=self.clips,
      rope_base=self.rope_base,
      dtype=self.dtype,
      matmul=self.matmul,
      name="text",
      **self.text,
    )(text.tokens, text.positions, text.segments)
    words = layers.Dense(
      self.width, ("embed", None), dtype=self.dtype, name="words"
    )(words)  # [R, S, D]

    x = jnp.concatenate([x, words], axis=1)  # [R, L + S, D]
    x = axes.constrain(x, "rows", None, None)
    level, positions, segments = (
      jnp.concatenate([getattr(video, f), getattr(text, f)], axis=1)
      for f in ("level", "positions", "segments")
    )
    by_level = layers.LevelEmbedding(self.width, self.dtype, name="levels")(
      packed.levels
    )  # [R, K, D]

    # Clip by clip: attention in tiles and that by cuDNN's packed sequences want
    # it, and attention by blocks has little to look at then.
    order, back = layers.clip_by_clip(segments)
    place = layers.place(
      layers.reorder(positions, order),
      layers.reorder(segments, order),
      self.width,
      self.heads,
      self.rope_base,
    )
    level = axes.constrain(layers.reorder(level, order), "rows", None)
    # An order may cross devices: rows are whole before it and after it.
    x = axes.constrain(layers.permute(x, order, back), "rows", None, None)
    shared = by_level
    if self.modulation == "single":
      shared = modulation(self.width, self.dtype)(by_level)
    x = self._blocks(x, shared, level, place)
    x = axes.constrain(x, "rows", None, None)
    x = axes.constrain(layers.permute(x, back, order), "rows", None, None)
    return self._head(x[:, :length], by_level, video.level)

  def _blocks(self, x, by_level, level, place):
    block = Block
    if REMAT[self.remat] is not None:
      block = nn.remat(
        block, policy=REMAT[self.remat], prevent_cse=not self.scan
      )
    args = dict(
      heads=self.heads,
      mlp=self.mlp,
      attention=self.attention,
      clips=self.clips,
      modulation=self.modulation,
      dtype=self.dtype,
      matmul=self.matmul,
      tubes=self.tubes,
    )
    rest = (by_level, level, place)
    if self.scan:
      stack = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=nn.broadcast,
        length=self.depth,
        metadata_params={nn.PARTITION_NAME: "layers"},
      )
      return stack(**args, name="blocks")(x, *rest)[0]
    for i in range(self.depth):
      x, _ = block(**args, name=f"block_{i}")(x, *rest)
    return x

  def _head(self, x, by_level, level):
    modulate = layers.Dense(
      2 * self.width,
      ("embed", None),
      init=layers.zeros,
      dtype=self.dtype,
      name="head_modulation",
    )(jax.nn.silu(by_level))
    shift, scale = jnp.split(layers.gather(modulate, level), 2, axis=-1)
    x = layers.layer_norm(x) * (1 + scale) + shift
    out = layers.Dense(
      self.patch_size,
      ("embed", None),
      init=layers.zeros,
      dtype=self.dtype,
      name="head",
    )(x)
    return out.astype(jnp.float32)
