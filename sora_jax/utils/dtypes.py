"""Number formats by name."""

from __future__ import annotations

import jax.numpy as jnp

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Of a model's matmuls: as the activations are, or what sums in float32.
OPERANDS = {"dtype": None, "bfloat16": jnp.bfloat16}
