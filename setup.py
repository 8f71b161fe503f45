"""Packaging of sora_jax: `pip install -c constraints.txt -e .`"""

import setuptools

setuptools.setup(
  name="sora_jax",
  version="0.1.0",
  description="Train, study and sample Sora-like video models in JAX.",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["sora_jax", "sora_jax.*"]),
  install_requires=[
    "absl-py",
    "array-record",
    "av>=18",
    "chex",
    "dm-pix",
    "etils[epath]",
    "flax>=0.12",
    "grain>=0.2.18",
    "importlib-resources",  # tensorflow-datasets needs it and does not say
    "jax>=0.10",
    "matplotlib",  # the curves of report.html
    "ml-collections",
    "numpy",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pillow>=10.1",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "tensorboardX",
    "tensorflow-datasets>=4.9.10",
    "tokenizers",
    "tqdm",
  ],
  extras_require={
    "test": ["pytest", "pytest-xdist", "ruff"],
    "bench": ["torch", "diffusers"],
    "gpu": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
  },
)
