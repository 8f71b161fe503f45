"""What is minimised: the transformer's objectives by name."""

from sora_jax.objectives.consistency import Consistency
from sora_jax.objectives.latent_diffusion import LatentDiffusion

OBJECTIVES = {
  "denoise": LatentDiffusion,
  "consistency": Consistency,
}
