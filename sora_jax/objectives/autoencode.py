"""Training the autoencoder: reconstruct, with a small KL to a unit Gaussian."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sora_jax.models import autoencoder as ae
from sora_jax.models.causal_conv import STREAM
from sora_jax.types import Array, Batch, Mean, Metrics, PyTree

# name -> error [..., 3] -> penalty
RECONSTRUCTION = {
  "l1": jnp.abs,
  "l2": jnp.square,
}
INITS = ("pca", "random")


@dataclasses.dataclass(frozen=True)
class Autoencode:
  """Objective with the one player "ae".

  Batches hold `video` uint8 [B, T, H, W, 3] and `mask` bool [B, T, H, W],
  false where a clip was padded to the common size.

  Attributes:
    model: the autoencoder.
    reconstruction: key of RECONSTRUCTION, on pixels in -1..1.
    kl: weight of the KL divergence per latent number.
    start: "pca" fits the linear paths to the first batch; "random" does not.
  """

  model: ae.Autoencoder
  reconstruction: str
  kl: float
  start: str

  def __post_init__(self):
    for value, valid in (
      (self.reconstruction, sorted(RECONSTRUCTION)),
      (self.start, INITS),
    ):
      if value not in valid:
        raise ValueError(f"{value!r} is not one of {valid}")

  @property
  def losses(self):
    return {"ae": self.loss}

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
    return {"ae": params}

  def real(self, mask: Array) -> Array:
    """1 for cells [B, t, h, w] that are data in every pixel, else 0."""
    shown = mask[..., None].astype(jnp.float32)
    return ae.to_cells(shown, self.model.compression).min(axis=-1)

  def loss(
    self, params: PyTree, frozen: PyTree, batch: Batch, rng: Array, step: Array
  ) -> tuple[Array, Metrics]:
    """Reconstruction + KL; the PSNR here is of the noisy latents."""
    del frozen, step
    video = ae.from_uint8(batch["video"])
    mask = batch["mask"][..., None].astype(jnp.float32)  # [B, T, H, W, 1]
    apply = functools.partial(self.model.apply, {"params": params["ae"]})
    mean, logvar = apply(video, method="encode")
    noise = jax.random.normal(rng, mean.shape)
    out = apply(mean + jnp.exp(0.5 * logvar) * noise, method="decode")

    error = out - video
    penalty = Mean.of(RECONSTRUCTION[self.reconstruction](error), mask)
    squared = Mean.of(jnp.square(error), mask)
    real = self.real(batch["mask"])[..., None]  # [B, t, h, w, 1]
    kl = Mean.of(0.5 * (mean**2 + jnp.exp(logvar) - logvar - 1), real)
    loss = penalty.compute() + self.kl * kl.compute()
    psnr = -10 * jnp.log10(jnp.maximum(squared.compute() / 4, 1e-10))
    return loss, {
      "loss": Mean.of(loss),
      "reconstruction": penalty,
      "kl": kl,
      "psnr": Mean.of(psnr),
    }

  def encode(self, params: PyTree, stats: PyTree, video: Array) -> Array:
    """uint8 video [B, T, H, W, 3] -> normalised latents [B, t, h, w, c]."""
    return self.chunk_in(params, stats, video, {}, start=True)[0]

  def decode(self, params: PyTree, stats: PyTree, z: Array) -> Array:
    """Normalised latents [B, t, h, w, c] -> uint8 video [B, T, H, W, 3]."""
    return self.chunk_out(params, stats, z, {}, start=True)[0]

  def chunk_in(
    self, params: PyTree, stats: PyTree, video: Array, past: PyTree, start: bool
  ) -> tuple[Array, PyTree]:
    """`encode` of a part of a clip.

    Args:
      params: of the player "ae".
      stats: of the latents.
      video: uint8, 1 + ct * k frames of a clip's start, else ct * k.
      past: what the chunk before left; {} at the start.
      start: whether the clip starts here.

    Returns:
      latents, and what the next chunk needs.
    """
    (mean, _), left = self.model.apply(
      {"params": params, **past},
      ae.from_uint8(video),
      start,
      method="encode",
      mutable=[STREAM],
    )
    return (mean - stats["mean"]) / stats["std"], left

  def chunk_out(
    self, params: PyTree, stats: PyTree, z: Array, past: PyTree, start: bool
  ) -> tuple[Array, PyTree]:
    """`decode` of a part of a clip; arguments as in `chunk_in`."""
    video, left = self.model.apply(
      {"params": params, **past},
      z * stats["std"] + stats["mean"],
      start,
      method="decode",
      mutable=[STREAM],
    )
    return ae.to_uint8(video), left

  def no_stats(self) -> PyTree:
    """Statistics that change nothing, until they have been measured."""
    c = self.model.channels
    return {"mean": jnp.zeros(c), "std": jnp.ones(c)}
