"""Evaluators: one class a file; `run(state)` yields (name, value)."""

from sora_jax.evaluators.captions import Captions
from sora_jax.evaluators.continuation import Continuation
from sora_jax.evaluators.drift import Drift
from sora_jax.evaluators.edits import Edits
from sora_jax.evaluators.fixed_times import FixedTimes
from sora_jax.evaluators.framing import Framing
from sora_jax.evaluators.frechet import Frechet
from sora_jax.evaluators.grid import Grid
from sora_jax.evaluators.laws import Laws
from sora_jax.evaluators.novelty import Novelty
from sora_jax.evaluators.reconstruction import Reconstruction
from sora_jax.evaluators.sheet import Sheet
from sora_jax.evaluators.tasks import Tasks

EVALUATORS = {
  "captions": Captions,
  "continuation": Continuation,
  "drift": Drift,
  "edits": Edits,
  "fixed_times": FixedTimes,
  "framing": Framing,
  "frechet": Frechet,
  "grid": Grid,
  "laws": Laws,
  "novelty": Novelty,
  "reconstruction": Reconstruction,
  "sheet": Sheet,
  "tasks": Tasks,
}
