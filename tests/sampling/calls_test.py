"""What a call of the sampler holds, and with which solver and guidance."""

import dataclasses
import functools

import jax
import pytest

from sora_jax.diffusion import guidance, solvers
from sora_jax.sampling.request import Request


@pytest.mark.parametrize("count", [1, 3, 6])
def test_requests_take_no_more_rows_than_they_fill(model, monkeypatch, count):
  """One does not wait for the padding of all the others that might come."""
  rows, clips, made = [], [], type(model.pipeline)
  sample, decoded = made.sample, made._decoded

  def counted(self, params, a):
    rows.append(len(a["known"]))
    return sample(self, params, a)

  def heard(self, frozen, z, past):
    clips.append(len(z))
    return decoded(self, frozen, z, past)

  monkeypatch.setattr(made, "sample", counted)
  monkeypatch.setattr(made, "_decoded", heard)
  wide = model.pipeline.length // 4 * 4 + 1  # frames that fill a row
  asked = [Request("a red three", (wide, 8, 16), seed=i) for i in range(count)]
  pipeline = dataclasses.replace(model.pipeline, rows=4, decode_batch=4)
  made = pipeline(model.params, model.frozen, asked)
  most = [4] * (count // 4) + [count % 4] * (count % 4 > 0)
  assert len(made) == count and rows == clips == most


GUIDED = {"cfg": {}, "rescaled": {"share": 0.5}, "zero": {"start": 1.0}}
GUIDED |= {"perpendicular": {"parallel": 0.5, "most": 0.0}}
OPTIONS = {
  "ancestral": {"eta": 0.5},
  "churn": {"amount": 0.2, "low": 0.0, "high": 1.0},
}


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_every_solver_and_guidance_takes_the_pipelines_levels(model, name):
  """Which come as one for each clip, not for each token."""
  solver = functools.partial(solvers.SOLVERS[name], **OPTIONS.get(name, {}))
  for kind in guidance.GUIDANCE:
    options = GUIDED.get(kind)
    if options is not None:
      options = {"scale": 2.0, "low": 0.0, "high": 1.0, **options}
    guide = functools.partial(guidance.GUIDANCE[kind], **(options or {}))
    pipeline = dataclasses.replace(
      model.pipeline, solver=solver, guidance=guide, steps=3
    )
    shapes = pipeline.abstract()
    found = jax.eval_shape(pipeline.sample, model.params, shapes)
    assert found.shape == shapes["known"].shape
