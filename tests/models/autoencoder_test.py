"""The autoencoder: causal to the bit, and never worse than PCA at first."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import autoencoder as ae
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.training import optimizer
from tests.conftest import BLOCKS, autoencoder, filled

COMPRESSIONS = [(4, 8, 8), (1, 8, 8), (8, 8, 8), (2, 4, 8)]
SPACE, CHANNELS, CELLS = (16, 24), 4, 3


def model(compression=(4, 8, 8), channels=CHANNELS, kind="factored"):
  return autoencoder(
    compression, channels, width=16, logvar=-6.0, **BLOCKS[kind]
  )


def frames(compression, cells=CELLS):
  return 1 + compression[0] * (cells - 1)


def test_every_block_is_tested():
  tested = {options.get("block", "conv") for options in BLOCKS.values()}
  assert tested == set(ae.BLOCKS)


def test_muon_takes_the_hidden_matrices():
  """By the names that the modules really have."""
  taken = set()
  for kind in BLOCKS:
    m = model(kind=kind)
    init = jax.eval_shape(m.init, jax.random.key(0), video((4, 8, 8)))
    found = optimizer.matrices(nn.meta.unbox(init["params"]))
    leaves, _ = jax.tree_util.tree_flatten_with_path(
      found, is_leaf=lambda x: not isinstance(x, dict)
    )
    for path, dimensions in leaves:
      names = [p.key for p in path if hasattr(p, "key")]
      short = "/".join(n.rstrip("_0123456789") for n in names)
      if dimensions is None:
        ends = ("bias", "scale", "parity")
        outer = ("linear", "enc_out", "dec_in")
        assert short.endswith(ends) or short.startswith(outer), short
      else:
        taken.add(short)
  sides = ("enc_blocks", "dec_blocks")
  assert taken == {"enc_in/kernel", "dec_out/kernel"} | {
    f"{side}/{name}"
    for side in sides
    for name in (
      "conv/spatial",
      "conv/temporal/kernel",
      "conv/kernel",
      "out/kernel",
      "qkv/kernel",
      "attention/qkv/kernel",
      "attention/out/kernel",
      "mlp/up/kernel",
      "mlp/down/kernel",
    )
  }


def video(compression, cells=CELLS, seed=0):
  shape = (2, frames(compression, cells), *SPACE, 3)
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def codec(compression, kind="factored"):
  """Jitted (encode, decode) with nothing at 0, so that all paths speak."""
  m = model(compression, CHANNELS, kind)
  init = functools.partial(m.init, jax.random.key(0))
  tree = nn.meta.unbox(jax.eval_shape(init, video(compression))["params"])
  rng = np.random.default_rng(1)

  def draw(x):
    scale = np.sqrt(np.prod(x.shape[:-1])) if len(x.shape) > 1 else 1
    return (rng.normal(size=x.shape) / scale).astype(x.dtype)

  variables = {"params": jax.tree.map(draw, tree)}

  def run(method):
    return jax.jit(lambda x: m.apply(variables, x, method=method))

  return run("encode"), run("decode")


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_past_latents_do_not_see_future_frames(compression, kind):
  encode, _ = codec(compression, kind)
  x = video(compression)
  before = encode(x)
  for cell in range(1, CELLS):
    changed = x.copy()
    changed[:, frames(compression, cell) :] += 1.0
    for a, b in zip(encode(changed), before):
      np.testing.assert_array_equal(a[:, :cell], b[:, :cell])
      assert (a[:, cell] != b[:, cell]).any()


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_past_frames_do_not_see_future_latents(compression, kind):
  encode, decode = codec(compression, kind)
  z = np.array(encode(video(compression))[0])
  before = decode(z)
  assert before.shape == video(compression).shape
  for cell in range(1, CELLS):
    changed, first = z.copy(), frames(compression, cell)
    changed[:, cell:] += 1.0
    after = decode(changed)
    np.testing.assert_array_equal(after[:, :first], before[:, :first])
    assert (after[:, first] != before[:, first]).any()


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_derivatives_towards_the_past_are_zero(compression, kind):
  encode, decode = codec(compression, kind)
  x, cell = video(compression), 2
  tangent = np.ones_like(x)
  tangent[:, : frames(compression, cell)] = 0

  @jax.jit
  def derivatives(x, tangent):
    def both(x):
      mean, logvar = encode(x)
      return mean, logvar, decode(mean)

    return jax.jvp(both, (x,), (tangent,))[1]

  *latents, pixels = (np.asarray(d) for d in derivatives(x, tangent))
  for d in latents:
    assert (d[:, :cell] == 0).all()
    assert np.abs(d[:, cell:]).max() > 1e-3
  first = frames(compression, cell)
  assert (pixels[:, :first] == 0).all()
  assert np.abs(pixels[:, first:]).max() > 1e-3


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_prefix_gives_the_prefix(compression, cells):
  # One cell is one frame: an image is what a clip begins with.
  encode, decode = codec(compression)
  x = video(compression)
  whole = encode(x)
  part = encode(x[:, : frames(compression, cells)])
  for a, b in zip(part, whole):
    assert a.shape[1] == cells
    np.testing.assert_allclose(a, b[:, :cells], atol=1e-5)
  np.testing.assert_allclose(
    decode(part[0]),
    decode(whole[0])[:, : frames(compression, cells)],
    atol=1e-4,
  )


@pytest.mark.parametrize("cells", [1, 3])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_cells_and_video_are_inverse(compression, cells):
  x = jnp.asarray(video(compression, cells))
  packed = ae.to_cells(x, compression)
  size = ae.latent_size(x.shape[1:4], compression)
  assert packed.shape == (2, *size, 3 * np.prod(compression))
  np.testing.assert_array_equal(ae.to_video(packed, compression), x)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_sizes_are_inverse(compression):
  for latent in [(1, 1, 1), (3, 2, 5), (7, 1, 2)]:
    pixels = ae.pixel_size(latent, compression)
    assert ae.latent_size(pixels, compression) == latent


@pytest.mark.parametrize(
  "size, message",
  [
    ((4, 16, 16), r"axis T has 4 frames; need 1 \+ 4 \* k"),
    ((0, 16, 16), "axis T has 0 frames"),
    ((5, 12, 16), "axis H has 12 pixels; need a multiple of 8"),
    ((5, 16, 0), "axis W has 0 pixels; need a multiple of 8"),
  ],
)
def test_sizes_that_do_not_divide(size, message):
  with pytest.raises(ValueError, match=message):
    ae.latent_size(size, (4, 8, 8))


@pytest.mark.parametrize(
  "wrong, method, message",
  [
    (np.zeros((1, 5, 16, 16, 3), np.uint8), "encode", "dtype uint8"),
    (np.zeros((5, 16, 16, 3), np.float32), "encode", "B, T, H, W, 3"),
    (np.zeros((1, 5, 16, 16, 1), np.float32), "encode", "B, T, H, W, 3"),
    (np.zeros((1, 4, 16, 16, 3), np.float32), "encode", "axis T has 4"),
    (np.zeros((2, 2, 2, CHANNELS), np.float32), "decode", "B, t, h, w, 4"),
    (np.zeros((1, 2, 2, 2, 5), np.float32), "decode", "axis c has 5 .*w, 4"),
    (np.zeros((1, 0, 2, 2, 4), np.float32), "decode", "axis t is empty"),
    (np.zeros((1, 2, 2, 2, 4), np.int32), "decode", "dtype int32; need floats"),
  ],
)
def test_wrong_input_is_an_error(wrong, method, message):
  m = model()
  init = functools.partial(m.init, jax.random.key(0))
  params = nn.meta.unbox(jax.eval_shape(init, video((4, 8, 8))))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(m.apply, method=method), params, wrong)


def test_another_range_is_an_error():
  m = model()
  bright = np.full((1, 1, 8, 8, 3), 255, np.float32)
  with pytest.raises(ValueError, match=r"lies in 255\.\.255; need -1\.\.1"):
    m.init(jax.random.key(0), bright)
  with pytest.raises(ValueError, match="has dtype float32; need uint8"):
    ae.from_uint8(bright)


def test_uint8_round_trip_is_exact():
  every = np.arange(256, dtype=np.uint8)
  as_float = ae.from_uint8(every)
  assert as_float.dtype == jnp.float32
  assert (as_float[0], as_float[-1]) == (-1, 1)
  np.testing.assert_array_equal(ae.to_uint8(as_float), every)
  beyond = ae.to_uint8(jnp.array([-3.0, 2.0, 0.0]))
  np.testing.assert_array_equal(beyond, [0, 255, 128])


def patterned(compression, count=24, rank=8):
  """uint8 clips whose cells are mixtures of a few patterns, and their mask."""
  rng = np.random.default_rng(0)
  shape = (count, 2, *(n // c for n, c in zip(SPACE, compression[1:])))
  mix = rng.normal(size=(*shape, rank)) * 1.6 ** -np.arange(rank)
  patterns = rng.normal(size=(rank, 3 * np.prod(compression)))
  clip = ae.to_video(np.asarray(0.3 * mix @ patterns), compression)
  video = np.array(ae.to_uint8(0.7 * clip + 0.1))
  mask = np.ones(video.shape[:4], bool)
  # Half of the clips end early, in what is no data.
  mask[::2, 1:] = False
  video[::2, 1:] = 255
  return {"video": video, "mask": mask}


@pytest.mark.parametrize("compression", [(4, 4, 4), (1, 8, 8), (8, 4, 4)])
def test_starts_at_principal_components(compression):
  batch = patterned(compression)
  objective = Autoencode(model(compression), "l2", {}, 1e-6, "pca", 0.0)
  boxed = jax.jit(objective.init)(jax.random.key(0), batch)["ae"]
  variables = {"params": nn.meta.unbox(boxed)}
  x = ae.from_uint8(batch["video"])
  apply = functools.partial(objective.model.apply, variables)

  cells = np.asarray(ae.to_cells(x, compression), np.float64)
  real = np.ones(cells.shape[:4], bool)
  real[::2, 1:] = False
  data = cells[real]
  mean = data.mean(axis=0)
  _, _, rows = np.linalg.svd(data - mean, full_matrices=False)
  kept = rows[:CHANNELS]
  expected = mean + (cells - mean) @ kept.T @ kept
  expected = ae.to_video(expected, compression)
  shown = batch["mask"]
  np.testing.assert_allclose(
    np.asarray(apply(x))[shown], expected[shown], atol=2e-3
  )
  error = np.asarray(x)[shown] - expected[shown]
  assert 0.01 < error.std() < 0.5 * np.asarray(x)[shown].std()

  latents, logvar = apply(x, method="encode")
  latents = np.asarray(latents)[real]
  # One common scale: decorrelated, and of variance 1 on average.
  np.testing.assert_allclose(latents.mean(axis=0), 0, atol=1e-2)
  covariance = np.cov(latents.T, bias=True)
  variance = covariance.diagonal()
  np.testing.assert_allclose(covariance, np.diag(variance), atol=1e-2)
  assert abs(variance.mean() - 1) < 1e-2
  assert (np.diff(variance) < 0).all()  # the most telling channel first
  np.testing.assert_array_equal(logvar, np.float32(-6.0))


def test_a_direction_without_variance_is_harmless():
  cells = jnp.ones((10, 12)).at[:, 0].set(jnp.arange(10.0))
  found = ae.principal(cells, 3, jnp.ones(10))
  z = cells @ found["in_kernel"] + found["in_bias"]
  assert jnp.abs(z).max() < 10
  back = z @ found["out_kernel"] + found["out_bias"]
  np.testing.assert_allclose(back, cells, atol=1e-3)


@pytest.mark.parametrize("kind", BLOCKS)
def test_bfloat16_operands_change_little_and_their_gradients_too(kind):
  exact = model(kind=kind)
  low = exact.clone(matmul=jnp.bfloat16)
  x = video((4, 8, 8))
  init = jax.eval_shape(exact.init, jax.random.key(0), x)
  params = filled(nn.meta.unbox(init["params"]))

  def loss(m, params):
    return jnp.square(m.apply({"params": params}, x)).mean()

  def off(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)

  out = [m.apply({"params": params}, x) for m in (low, exact)]
  assert out[0].dtype == jnp.float32 and 0 < off(*out) < 0.02
  for a, b in zip(
    *(jax.tree.leaves(jax.grad(loss, 1)(m, params)) for m in (low, exact)),
    strict=True,
  ):
    assert a.dtype == jnp.float32 and off(a, b) < 0.05
  # It starts from the same linear path, which is exact.
  linear = jax.tree.map(jnp.zeros_like, params)
  linear |= {k: params[k] for k in ("linear_in", "linear_out")}
  both = (m.apply({"params": linear}, x) for m in (low, exact))
  np.testing.assert_array_equal(*both)


def test_parity_is_told_by_row_and_column():
  """Cells that hold the same are coded by where they lie, modulo 2."""
  model = autoencoder((4, 8, 8), channels=6, parity=True)
  video = jnp.full((1, 1, 48, 48, 3), 0.3)
  params = nn.meta.unbox(model.init(jax.random.PRNGKey(0), video))
  head = params["params"]["enc_out"]["kernel"]  # zero at first
  draw = jax.random.normal(jax.random.PRNGKey(1), head.shape)
  params["params"]["enc_out"]["kernel"] = draw

  def inner(corner):
    mean, _ = model.apply(params, video, True, corner, method="encode")
    return np.asarray(mean[0, 0, 2:4, 2:4])  # away from the borders

  found = inner((0, 0))
  kinds = found.reshape(4, -1)
  for a, b in itertools.combinations(kinds, 2):
    assert np.abs(a - b).max() > 1e-3
  np.testing.assert_allclose(inner((1, 0)), found[::-1], atol=1e-5)
  np.testing.assert_allclose(inner((0, 1)), found[:, ::-1], atol=1e-5)
  np.testing.assert_allclose(inner((4, 2)), found, atol=1e-5)
