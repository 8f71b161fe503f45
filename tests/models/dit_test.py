"""The transformer: packing changes nothing, and nothing leaks."""

import dataclasses
import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import dit
from sora_jax.models.attention import ATTENTION, EXACT
from sora_jax.packing import pack, patchify
from sora_jax.types import Packed, Stream

P, FRAMES, CLIPS, VOCAB = 6, 3, 2, 20
SIZES = ((3, 2, 2), (1, 2, 3), (2, 1, 4))
WORDS = (4, 1, 6)
# Frozen, so that models can be told apart by what they are.
TEXT = flax.core.freeze(
  {"vocab_size": VOCAB, "width": 16, "depth": 1, "heads": 2}
)
pytestmark = pytest.mark.usefixtures("small_blocks")


@dataclasses.dataclass
class Example:
  """One clip as it comes: tokens, ids, a time per frame, what is known."""

  tokens: np.ndarray  # [n, P]
  positions: np.ndarray  # [n, 3]
  ids: np.ndarray  # [S]
  times: np.ndarray  # [FRAMES]
  known: np.ndarray  # [n]
  weight: np.ndarray  # [n, P], to make a scalar of the output


def examples(seed=0):
  rng = np.random.default_rng(seed)
  out = []
  for size, words in zip(SIZES, WORDS):
    positions = patchify.positions(size, (1, 1, 1))
    tokens, weight = rng.normal(size=(2, len(positions), P))
    out.append(
      Example(
        tokens.astype(np.float32),
        positions,
        rng.integers(1, VOCAB, words).astype(np.int32),
        rng.uniform(0.1, 1, FRAMES).astype(np.float32),
        rng.random(len(positions)) < 0.2,
        weight.astype(np.float32),
      )
    )
  return out


def packed(clips, length, words):
  """(Packed, weights [R, L, P], layout) of clips in rows of a length."""
  layout, text = pack.plan(
    [len(c.tokens) for c in clips],
    length,
    CLIPS,
    [len(c.ids) for c in clips],
    words,
  )
  levels = np.zeros((layout.rows, 1 + CLIPS * FRAMES), np.float32)
  level = []
  for slot, c in zip(layout.slots, clips):
    first = 1 + (slot.segment - 1) * FRAMES
    levels[slot.row, first : first + FRAMES] = c.times
    at = first + c.positions[:, 0]
    level.append(np.where(c.known, 0, at).astype(np.int32))
  video = Stream(
    pack.pack([c.tokens for c in clips], layout),
    pack.pack([c.positions for c in clips], layout),
    layout.segments,
    pack.pack(level, layout),
  )
  words = Stream(
    pack.pack([c.ids for c in clips], text),
    pack.pack([patchify.text_positions(len(c.ids)) for c in clips], text),
    text.segments,
    np.zeros_like(text.segments),
  )
  weight = pack.pack([c.weight for c in clips], layout)
  return Packed({"video": video, "text": words}, levels), weight, layout


def together(clips):
  return packed(clips, 20, 11)


def model(**changes):
  return dit.DiT(
    **{
      "patch_size": P,
      "width": 32,
      "depth": 2,
      "heads": 2,
      "mlp": 48,
      "attention": "full",
      "clips": CLIPS,
      "modulation": "block",
      "rope_base": 100.0,
      "remat": "none",
      "scan": True,
      "text": TEXT,
      "dtype": jnp.float32,
      **changes,
    }
  )


def shapes(model):
  init = functools.partial(model.init, jax.random.key(0))
  tree = jax.eval_shape(init, together(examples())[0])
  return nn.meta.unbox(tree["params"])


@functools.cache
def params():
  return drawn(model())


def drawn(model):
  """Random, with nothing at 0: gates and heads would hide everything."""
  rng = np.random.default_rng(1)

  def draw(path, x):
    value = rng.normal(size=x.shape).astype(x.dtype)
    kernel = path[-1].key == "kernel"
    return value / np.sqrt(x.shape[-2]) if kernel else 1 + 0.2 * value

  return jax.tree_util.tree_map_with_path(draw, shapes(model))


def unrolled(tree):
  """Parameters of the scanned model as those of the unrolled one."""
  rest = {k: v for k, v in tree.items() if k != "blocks"}
  depth = model().depth
  return rest | {
    f"block_{i}": jax.tree.map(lambda x, i=i: x[i], tree["blocks"])
    for i in range(depth)
  }


def applied(**changes):
  return _applied(model(**changes))


@functools.cache
def _applied(model):
  return jax.jit(lambda p, x: model.apply({"params": p}, x))


def graded(**changes):
  """Jitted loss with its gradient by parameters."""
  return _graded(model(**changes))


@functools.cache
def _graded(model):
  def loss(p, x, weight):
    out = model.apply({"params": p}, x)
    return (out * weight).sum() + (jnp.square(out) * abs(weight)).sum()

  return jax.jit(jax.value_and_grad(loss))


def assert_trees_close(a, b, tolerance):
  a, b = (jax.tree_util.tree_leaves_with_path(x) for x in (a, b))
  for (path, x), (other, y) in zip(a, b, strict=True):
    assert path == other
    scale = np.abs(y).max()
    assert scale > 0, path
    np.testing.assert_allclose(
      x, y, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
    )


@pytest.mark.parametrize("attention", ATTENTION)
def test_packed_equals_unpacked(attention):
  clips = examples()
  rows, _, layout = together(clips)
  assert layout.rows < len(clips)  # some do share a row
  run = applied(attention=attention)
  shared = pack.unpack(run(params(), rows), layout)
  for clip, mine in zip(clips, shared, strict=True):
    alone, _, _ = packed([clip], 12, 6)
    kind = "full" if attention in EXACT else attention
    out = applied(attention=kind)(params(), alone)[0, : len(mine)]
    assert np.abs(out).max() > 0.1
    np.testing.assert_allclose(mine, out, atol=1e-5)


def test_a_row_without_padding_gives_the_same():
  clip = examples()[0]
  exact, _, _ = packed([clip], len(clip.tokens), len(clip.ids))
  alone, _, _ = packed([clip], 20, 11)
  np.testing.assert_allclose(
    applied()(params(), alone)[0, : len(clip.tokens)],
    applied()(params(), exact)[0],
    atol=1e-5,
  )


@pytest.mark.parametrize(
  "changes",
  [
    {"attention": "full"},
    {"attention": "blocks"},
    {"attention": "tiled"},
    {"attention": "tiled", "remat": "dots"},
  ],
)
def test_gradients_packed_equal_unpacked(changes):
  clips = examples()
  rows, weight, _ = together(clips)
  loss, grads = graded(**changes)(params(), rows, weight)
  total, summed = 0.0, None
  for clip in clips:
    alone, weight, _ = packed([clip], 12, 6)
    one, grad = graded()(params(), alone, weight)
    total += one
    summed = jax.tree.map(np.add, summed, grad) if summed else grad
  np.testing.assert_allclose(loss, total, rtol=1e-5)
  assert_trees_close(grads, summed, 2e-5)


@pytest.mark.parametrize("field", ["tokens", "ids", "times", "known"])
@pytest.mark.parametrize("victim", range(len(SIZES)))
def test_no_leak_between_clips(field, victim):
  clips, others = examples(), examples(seed=1)
  rows, _, layout = together(clips)
  before = pack.unpack(applied()(params(), rows), layout)
  new = getattr(others[victim], field)
  if field == "known":
    new = ~clips[victim].known
  clips[victim] = dataclasses.replace(clips[victim], **{field: new})
  after = pack.unpack(applied()(params(), together(clips)[0]), layout)
  for i, (x, y) in enumerate(zip(before, after, strict=True)):
    if i == victim:
      # Text, too, changes what its own clip gives: all but nobody else's.
      assert np.abs(x - y).max() > 1e-3
    else:
      np.testing.assert_allclose(x, y, atol=1e-6)


def test_padding_is_ignored():
  rows, _, _ = together(examples())
  video = rows.streams["video"]
  real = video.segments > 0
  before = applied()(params(), rows)
  junk = np.where(real[..., None], video.tokens, 100.0)
  streams = rows.streams | {"video": video.replace(tokens=junk)}
  after = applied()(params(), rows.replace(streams=streams))
  assert np.isfinite(after).all()
  np.testing.assert_allclose(after[real], before[real], atol=1e-6)


def test_order_of_words_matters():
  clips = examples()
  rows, _, layout = together(clips)
  before = pack.unpack(applied()(params(), rows), layout)[2]
  clips[2].ids = clips[2].ids[::-1].copy()
  after = pack.unpack(applied()(params(), together(clips)[0]), layout)[2]
  assert np.abs(after - before).max() > 1e-3


def test_position_matters():
  rows, _, _ = together(examples())
  video = rows.streams["video"]
  for axis in range(3):
    moved = video.positions.copy()
    moved[..., axis] *= 2
    streams = rows.streams | {"video": video.replace(positions=moved)}
    after = applied()(params(), rows.replace(streams=streams))
    assert np.abs(after - applied()(params(), rows)).max() > 1e-3


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", dit.REMAT)
def test_scan_and_remat_change_nothing(remat, scan):
  rows, weight, _ = together(examples())
  loss, grads = graded()(params(), rows, weight)
  tree = params() if scan else unrolled(params())
  found, found_grads = graded(remat=remat, scan=scan)(tree, rows, weight)
  np.testing.assert_allclose(found, loss, rtol=1e-6)
  expected = grads if scan else unrolled(grads)
  assert_trees_close(found_grads, expected, 1e-5)


def test_unrolled_has_the_parameters_of_scanned():
  expected = jax.eval_shape(unrolled, shapes(model()))
  assert shapes(model(scan=False)) == expected


def test_bfloat16_stays_close():
  rows, _, _ = together(examples())
  real = rows.streams["video"].segments > 0
  exact = applied()(params(), rows)[real]
  half = applied(dtype=jnp.bfloat16)(params(), rows)
  assert half.dtype == jnp.float32
  error = np.sqrt(np.mean((half[real] - exact) ** 2) / np.mean(exact**2))
  assert 0 < error < 0.05
  tree = shapes(model(dtype=jnp.bfloat16))
  assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_bfloat16_matmuls_keep_float32_activations():
  rows, _, _ = together(examples())
  real = rows.streams["video"].segments > 0
  exact = applied()(params(), rows)[real]
  scale = np.sqrt(np.mean(exact**2))

  def error(**dtypes):
    found = applied(**dtypes)(params(), rows)[real]
    return np.sqrt(np.mean((found - exact) ** 2)) / scale

  rounded = error(matmul=jnp.bfloat16)
  assert 0 < rounded < error(dtype=jnp.bfloat16) < 0.05
  assert error(matmul=jnp.float32) == 0


def test_output_at_init_is_zero():
  rows, _, _ = together(examples())
  out, _ = jax.jit(model().init_with_output)(jax.random.key(0), rows)
  assert (np.asarray(out) == 0).all()


def test_one_modulation_for_all_is_that_of_equal_blocks():
  """Blocks that modulate alike, but for constants, are the shared form."""
  one = model(modulation="single")
  tree = drawn(one)
  shared, own = tree["modulation"], tree["blocks"]["modulation"]
  blocks = tree["blocks"] | {
    "modulation": {
      "kernel": np.stack([shared["kernel"]] * one.depth),
      "bias": shared["bias"] + own,
    }
  }
  rest = {k: v for k, v in tree.items() if k != "modulation"}
  rows, _, _ = together(examples())
  found = applied(modulation="single")(tree, rows)
  wanted = applied()(rest | {"blocks": blocks}, rows)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  saved = tree_size(shapes(model())) - tree_size(tree)
  assert saved == (one.depth - 1) * shared["kernel"].size - shared["bias"].size
  out, _ = jax.jit(one.init_with_output)(jax.random.key(0), rows)
  assert (np.asarray(out) == 0).all()


def tree_size(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def test_width_that_heads_do_not_divide_is_an_error():
  with pytest.raises(ValueError, match=r"width 32 .* 3 heads"):
    shapes(model(heads=3))


def test_tubes_change_where_training_begins_and_nothing_else():
  plain, tubes = (
    nn.meta.unbox(
      model(tubes=n).init(jax.random.key(0), together(examples())[0])
    )
    for n in (0, 1)
  )
  differ = [
    (path, x, y)
    for (path, x), (_, y) in zip(
      *map(jax.tree_util.tree_leaves_with_path, (plain, tubes)), strict=True
    )
    if (x != y).any()
  ]
  ((path, x, y),) = differ
  names = [key.key for key in path]
  assert names == ["params", "blocks", "attention", "qkv", "bias"]
  # [layers, heads, (q, k, v), head_dim]: queries and keys of the first head.
  new = (y - x).reshape(2, 2, 3, 16)
  assert new[:, 0, :2].any() and not new[:, 1].any() and not new[:, :, 2].any()
  np.testing.assert_array_equal(new[:, 0, 0], new[:, 0, 1])
