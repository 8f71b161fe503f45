"""Training the autoencoder: reconstruct, with a small KL to a unit Gaussian.

Optionally against a discriminator D, the second player (Lim & Ye 2017,
"Geometric GAN", for the hinge; Mescheder et al. 2018 for the R1 penalty):

  D minimises  E max(0, 1 - D(x)) + E max(0, 1 + D(y)) + r1/2 |dS(x)/dx|^2 / n
  the autoencoder adds  weight * a * E (-D(y)),  y what it makes of x,

with E the mean and S the sum of the n logits whose cell shows data, and the
adaptive a = |dR/dy| / |dG/dy| of Esser et al. 2021 ("Taming transformers"), R
the reconstruction and G the other term. They take gradients by the last layer;
here they are by the decoded pixels, in which it is linear.

Optionally with scale equivariance (Skorokhodov et al. 2025, "Improving the
diffusability of autoencoders"): latents averaged over 2 x 2 cells must decode
to the video averaged over 2 x 2 pixels, so that what the latents say finely is
what the pixels show finely, in the order in which diffusion makes them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from sora_jax.models import autoencoder as ae
from sora_jax.models import perceptual
from sora_jax.models.causal_conv import STREAM
from sora_jax.models.discriminator import Discriminator
from sora_jax.objectives.penalties import RECONSTRUCTION, TERMS
from sora_jax.types import Array, Batch, Mean, Metrics, PyTree

INITS = ("pca", "random")
PARTS = ("all", "decoder")
MOST = 1e4  # of the adaptive weight, where D tells nothing yet


@dataclasses.dataclass(frozen=True)
class Adversary:
  """The second player, "disc".

  Attributes:
    model: the discriminator.
    weight: of its say, relative to the reconstruction's.
    start: the first step from which it has one; it learns from step 0 on.
    r1: weight of the gradient penalty.
  """

  model: Discriminator
  weight: float
  start: int
  r1: float


@dataclasses.dataclass(frozen=True, eq=False)  # jit tells them apart by id
class Autoencode:
  """Objective with the player "ae", and "disc" if there is an adversary.

  Batches hold `video` uint8 [B, T, H, W, 3] and `mask` bool [B, T, H, W],
  false where a clip was padded to the common size.

  Attributes:
    model: the autoencoder.
    reconstruction: key of RECONSTRUCTION, on pixels in -1..1.
    terms: weights of further penalties by key of TERMS.
    kl: weight of the KL divergence per latent number.
    part: one of PARTS: what is trained. "decoder" keeps the encoder as it is,
      and with it the latents that others have learned (Rombach et al. 2022
      have trained decoders on like that).
    start: "pca" fits the linear paths to the first batch; "random" does not.
    equivariance: weight of the reconstruction at half the scale; needs latents
      of even height and width.
    perceptual: weight of LPIPS, whose parameters are frozen["perceptual"].
    adversary: or None.
  """

  model: ae.Autoencoder
  reconstruction: str
  terms: Mapping[str, float]
  kl: float
  start: str
  equivariance: float
  perceptual: float = 0.0
  adversary: Adversary | None = None
  part: str = "all"

  def __post_init__(self):
    for value, valid in (
      (self.reconstruction, sorted(RECONSTRUCTION)),
      *((term, sorted(TERMS)) for term in self.terms),
      (self.start, INITS),
      (self.part, PARTS),
    ):
      if value not in valid:
        raise ValueError(f"{value!r} is not one of {valid}")

  @property
  def losses(self):
    return {"ae": self.loss} | ({"disc": self.judge} if self.adversary else {})

  def init(self, rng: Array, batch: Batch) -> dict[str, PyTree]:
    video = ae.from_uint8(batch["video"])
    params = self.model.init(rng, video[:1])["params"]
    if self.start == "pca":
      compression = self.model.compression
      cells = ae.to_cells(video, compression)
      found = ae.principal(
        cells.reshape(-1, cells.shape[-1]),
        self.model.channels,
        self.real(batch["mask"]).reshape(-1),
      )
      params = ae.with_principal(params, found)
    out = {"ae": params}
    if self.adversary:
      own = jax.random.fold_in(rng, 1)
      out["disc"] = self.adversary.model.init(own, video[:1])["params"]
    return out

  def real(self, mask: Array) -> Array:
    """1 for cells [B, t, h, w] that are data in every pixel, else 0."""
    shown = mask[..., None].astype(jnp.float32)
    return ae.to_cells(shown, self.model.compression).min(axis=-1)

  def loss(
    self, params: PyTree, frozen: PyTree, batch: Batch, rng: Array, step: Array
  ) -> tuple[Array, Metrics]:
    """Reconstruction + terms + KL; the PSNR here is of the noisy latents."""
    video, mask = _data(batch)
    z, mean, logvar = self._drawn(params["ae"], video, rng)
    out = self._apply(params["ae"], z, method="decode")
    missing = functools.partial(
      self._missing, frozen=frozen, video=video, mask=mask
    )
    value, parts = missing(out)
    squared = Mean.of(jnp.square(out - video), mask)
    real = self.real(batch["mask"])[..., None]  # [B, t, h, w, 1]
    kl = Mean.of(0.5 * (mean**2 + jnp.exp(logvar) - logvar - 1), real)
    loss = value + self.kl * kl.compute()
    metrics = {**parts, "kl": kl}
    if self.equivariance:
      small = self._apply(params["ae"], _half(z), method="decode")
      fn, shown = RECONSTRUCTION[self.reconstruction], _half(mask) == 1
      metrics["half"] = fn(small - _half(video), shown.astype(jnp.float32))
      loss += self.equivariance * metrics["half"].compute()
    if self.adversary:
      slope, _ = jax.grad(missing, has_aux=True)(jax.lax.stop_gradient(out))
      fooled, share = self._fooled(params["disc"], out, mask, slope, step)
      loss += share * fooled
      metrics |= {"adversarial": Mean.of(fooled), "share": Mean.of(share)}
    psnr = -10 * jnp.log10(jnp.maximum(squared.compute() / 4, 1e-10))
    return loss, {"loss": Mean.of(loss), "psnr": Mean.of(psnr), **metrics}

  def judge(
    self, params: PyTree, frozen: PyTree, batch: Batch, rng: Array, step: Array
  ) -> tuple[Array, Metrics]:
    """The discriminator's hinge loss, with the R1 penalty."""
    del frozen, step
    video, mask = _data(batch)
    z, *_ = self._drawn(params["ae"], video, rng)
    out = self._apply(params["ae"], z, method="decode")
    # Nothing beyond the clip's end, or that would tell the two apart.
    judge = functools.partial(self._logits, params["disc"], mask)
    seen = self.adversary.model.seen(mask)
    true, slope = jax.vjp(judge, video)
    false = judge(jax.lax.stop_gradient(out))
    (steep,) = slope(seen)
    penalty = jnp.square(steep).sum() / seen.sum()
    hinge = sum(
      Mean.of(jax.nn.relu(1 + sign * logits), seen).compute()
      for sign, logits in ((-1, true), (1, false))
    )
    return hinge + self.adversary.r1 / 2 * penalty, {
      "loss": Mean.of(hinge),
      "r1": Mean.of(penalty),
      "real": Mean.of(true, seen),
      "made": Mean.of(false, seen),
    }

  def _logits(self, params: PyTree, mask: Array, video: Array) -> Array:
    """The discriminator's, of the part of a video that is data."""
    return self.adversary.model.apply({"params": params}, video * mask)

  def _apply(self, params: PyTree, x: Array, method: str):
    return self.model.apply({"params": params}, x, method=method)

  def _drawn(self, params: PyTree, video: Array, rng: Array):
    """Noisy latents [B, t, h, w, c], their mean and log-variance."""
    mean, logvar = self._apply(params, video, method="encode")
    if self.part == "decoder":
      mean, logvar = jax.lax.stop_gradient((mean, logvar))
    noise = jax.random.normal(rng, mean.shape)
    return mean + jnp.exp(0.5 * logvar) * noise, mean, logvar

  def _missing(
    self, out: Array, frozen: PyTree, video: Array, mask: Array
  ) -> tuple[Array, Metrics]:
    """What the decoded video pays for not being the original, and its parts."""
    error = out - video
    fns = {"reconstruction": RECONSTRUCTION[self.reconstruction]}
    fns |= {name: TERMS[name] for name in self.terms}
    parts = {name: fn(error, mask) for name, fn in fns.items()}
    weights = {"reconstruction": 1.0, **self.terms}
    if self.perceptual:
      frames = [(x * mask).reshape(-1, *x.shape[2:]) for x in (out, video)]
      away = perceptual.distance(frozen["perceptual"], *frames)  # [B * T]
      parts["lpips"] = Mean.of(away, mask.max((2, 3, 4)).ravel())
      weights["lpips"] = self.perceptual
    value = sum(weights[name] * part.compute() for name, part in parts.items())
    return value, parts

  def _fooled(
    self, params: PyTree, out: Array, mask: Array, slope: Array, step: Array
  ) -> tuple[Array, Array]:
    """-E D(out), and its weight: 0 before it has a say."""
    adversary, seen = self.adversary, self.adversary.model.seen(mask)

    def minus(out):
      return -Mean.of(self._logits(params, mask, out), seen).compute()

    own = jax.grad(minus)(jax.lax.stop_gradient(out))
    ratio = jnp.linalg.norm(slope) / jnp.maximum(jnp.linalg.norm(own), 1e-12)
    share = adversary.weight * jnp.clip(ratio, 0.0, MOST)
    share = jnp.where(step >= adversary.start, share, 0.0)
    return minus(out), jax.lax.stop_gradient(share)

  def encode(self, params: PyTree, stats: PyTree, video: Array) -> Array:
    """uint8 video [B, T, H, W, 3] -> normalised latents [B, t, h, w, c]."""
    return self.chunk_in(params, stats, video, {}, start=True)[0]

  def decode(self, params: PyTree, stats: PyTree, z: Array) -> Array:
    """Normalised latents [B, t, h, w, c] -> uint8 video [B, T, H, W, 3]."""
    return self.chunk_out(params, stats, z, {}, start=True)[0]

  def chunk_in(
    self,
    params: PyTree,
    stats: PyTree,
    video: Array,
    past: PyTree,
    start: bool,
    corner: Sequence[int] = ae.CORNER,
  ) -> tuple[Array, PyTree]:
    """`encode` of a part of a clip.

    Args:
      params: of the player "ae".
      stats: of the latents.
      video: uint8, 1 + ct * k frames of a clip's start, else ct * k.
      past: what the chunk before left; {} at the start.
      start: whether the clip starts here.
      corner: row and column of the first cell, of a part of a frame.

    Returns:
      latents, and what the next chunk needs.
    """
    (mean, _), left = self.model.apply(
      {"params": params, **past},
      ae.from_uint8(video),
      start,
      corner,
      method="encode",
      mutable=[STREAM],
    )
    return (mean - stats["mean"]) / stats["std"], left

  def chunk_out(
    self,
    params: PyTree,
    stats: PyTree,
    z: Array,
    past: PyTree,
    start: bool,
    corner: Sequence[int] = ae.CORNER,
  ) -> tuple[Array, PyTree]:
    """`decode` of a part of a clip; arguments as in `chunk_in`."""
    # Before the statistics, over which one channel would spread to all.
    ae.check_latents(z, self.model.channels)
    video, left = self.model.apply(
      {"params": params, **past},
      z * stats["std"] + stats["mean"],
      start,
      corner,
      method="decode",
      mutable=[STREAM],
    )
    return ae.to_uint8(video), left

  def no_stats(self) -> PyTree:
    """Statistics that change nothing, until they have been measured."""
    c = self.model.channels
    return {"mean": jnp.zeros(c), "std": jnp.ones(c)}


def _half(x: Array) -> Array:
  """[B, t, h, w, c] -> [B, t, h / 2, w / 2, c]: means of 2 x 2."""
  b, t, h, w, c = x.shape
  return x.reshape(b, t, h // 2, 2, w // 2, 2, c).mean((3, 5))


def _data(batch: Batch) -> tuple[Array, Array]:
  """Video in -1..1 [B, T, H, W, 3], and mask [B, T, H, W, 1]."""
  mask = batch["mask"][..., None].astype(jnp.float32)
  return ae.from_uint8(batch["video"]), mask
