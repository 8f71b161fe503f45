"""The pipeline: any requests together, each as if it were alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from sora_jax.diffusion import guidance
from sora_jax.packing import patchify
from sora_jax.sampling.tasks import NEEDS, TASKS, Request

CAPTION = "a red three moves left on a black background"
VIDEO, WIDE = (5, 16, 16), (9, 8, 16)


def clip(size=VIDEO, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 255, (*size, 3), np.uint8)


def given(task, size):
  """What a task is given for a video of this size, and it is 9 frames long."""
  mask = np.zeros((1, *size[1:]), bool)
  mask[:, :, -8:] = True  # whole latent cells
  known = {
    "frames": {"source": clip((1, *size[1:])), "at": (4,)},
    "interpolate": {"source": clip((5, *size[1:]))},
    "inpaint": {"source": clip(size), "mask": mask},
    "outpaint": {"source": clip((1, size[1], size[2] - 8))},
    "connect": {"target": clip(size, seed=1)},
  }
  return {"source": clip(size)} | known.get(task, {}) if task in NEEDS else {}


def request(task="t2v", size=VIDEO, **changes):
  if task == "t2i":
    size = (1, *size[1:])
  if task in NEEDS:
    size = (9, *size[1:])
  made = Request(CAPTION, size, task, seed=3, keep=1, **given(task, size))
  return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def latents(model):
  """The latents of requests, on weights that are nowhere zero."""
  return functools.partial(model.pipeline.latents, model.params, model.frozen)


def crowd():
  """Other requests: of other sizes, tasks, and lengths of prompt."""
  return [
    request(size=WIDE, prompt="", seed=8),
    request("t2i", seed=9),
    request("i2v", prompt="a green eight", seed=10),
    request(size=VIDEO, prompt="a red three", seed=11),
  ]


def canvas_of(model, asked):
  draft = model.pipeline.draft(asked)
  (canvas,) = model.pipeline._canvases(model.frozen, [draft])
  return draft, canvas


@pytest.mark.parametrize("task", TASKS)
def test_what_is_known_comes_back_bit_for_bit(model, latents, task):
  asked = request(task)
  draft, canvas = canvas_of(model, asked)
  (found,) = latents([asked])
  mask = np.broadcast_to(canvas.mask[0] > 0, found.shape)
  np.testing.assert_array_equal(found[mask], canvas.known[0][mask])
  assert mask.any() == (task in NEEDS and task != "edit")
  # What is not known was made, and of noise and not of zeros.
  made = found[~mask]
  assert np.isfinite(made).all() and made.std() > 0.1
  # The pixels of whole cells are those that were given, and no others.
  model_cells = np.asarray(canvas.mask[0, ..., 0]) > 0
  times = np.repeat(model_cells, [1] + [4] * (len(model_cells) - 1), axis=0)
  cells = times.repeat(8, axis=1).repeat(8, axis=2)
  assert (draft.known | ~cells).all()
  (video,) = model.pipeline(model.params, model.frozen, [asked])
  at = 0 if draft.before is None else len(draft.before)
  part = video[at : at + len(draft.video[: draft.shown])]
  cells = cells[: draft.shown]
  np.testing.assert_array_equal(part[cells], draft.video[: draft.shown][cells])
  assert not (part[~cells] == draft.video[: draft.shown][~cells]).all()


@pytest.mark.parametrize("task", ["extend", "extend_back", "connect", "loop"])
def test_what_surrounds_the_new_part_comes_back(model, task):
  source, target = clip((14, 16, 16)), clip((12, 16, 16), seed=5)
  given = {"target": target} if task == "connect" else {}
  asked = request(task, source=source, **given)
  (video,) = model.pipeline(model.params, model.frozen, [asked])
  if task == "extend_back":
    np.testing.assert_array_equal(video[-14:], source)
  else:
    np.testing.assert_array_equal(video[:14], source)
  if task == "connect":
    np.testing.assert_array_equal(video[-12:], target)
  new = {"extend": 8, "extend_back": 5, "connect": 4 + 12, "loop": 4}[task]
  assert len(video) == 14 + new


def test_a_cell_of_which_one_pixel_is_new_is_made(model):
  mask = np.zeros((9, 16, 16), bool)
  mask[8, 15, 15] = True
  asked = request("inpaint", mask=mask)
  _, canvas = canvas_of(model, asked)
  wanted = np.ones((3, 2, 2), bool)
  wanted[2, 1, 1] = False
  np.testing.assert_array_equal(canvas.mask[0, ..., 0] > 0, wanted)


def test_the_less_strength_the_closer_to_the_source(latents, model):
  source = canvas_of(model, request("edit"))[1].known[0]
  far = [
    np.abs(latents([request("edit", strength=s)])[0] - source).mean()
    for s in (0.05, 0.3, 1.0)
  ]
  assert far[0] < far[1] < far[2] and far[0] < 0.5 * far[2]


def watched():
  """What the model sees, and a guidance that notes it: (x, time of tokens)."""
  seen = []

  def spy(cond, both, space):
    del both

    def denoise(xt, levels):
      jax.debug.callback(lambda *x: seen.append(x), xt, space.spread(levels))
      return cond(xt, levels)

    return denoise

  return seen, spy


@pytest.mark.parametrize("task", TASKS)
def test_the_model_sees_what_is_known_as_clean(model, task):
  """At noise level 0 and without noise, at every step of the solver."""
  seen, spy = watched()
  asked = request(task)
  pipeline = dataclasses.replace(model.pipeline, guidance=spy)
  _, canvas = canvas_of(model, asked)
  tokens = patchify.patchify(canvas.known, pipeline.patch)[0]
  clean = patchify.patchify(canvas.mask, pipeline.patch)[0].min(axis=-1) > 0
  pipeline.latents(model.params, model.frozen, [asked])
  jax.effects_barrier()
  assert len(seen) >= pipeline.steps
  for xt, time in seen:
    found, level = xt[0, : len(tokens)], time[0, : len(tokens), 0]
    np.testing.assert_array_equal(level[clean], 0)
    np.testing.assert_array_equal(found[clean], tokens[clean])
  assert (seen[0][1][0, : len(tokens), 0][~clean] > 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_request_is_the_same_alone_and_in_a_crowd(latents, task):
  asked = request(task, size=WIDE) if task == "t2v" else request(task)
  (alone,) = latents([asked])
  *_, packed = latents([*crowd(), asked])
  np.testing.assert_allclose(packed, alone, atol=1e-4)
  first, *_ = latents([asked, *crowd()])
  np.testing.assert_allclose(first, alone, atol=1e-4)


def test_sizes_and_images_come_together(model):
  asked = crowd()
  videos = model.pipeline(model.params, model.frozen, asked)
  assert [v.shape for v in videos] == [(*r.size, 3) for r in asked]
  assert all(v.dtype == np.uint8 for v in videos)


def test_seed_and_prompt_matter_and_nothing_else_is_random(latents):
  (one,) = latents([request()])
  (again,) = latents([request()])
  np.testing.assert_array_equal(one, again)
  for other in (request(seed=4), request(prompt="a green eight")):
    (found,) = latents([other])
    assert np.abs(found - one).max() > 1e-3


def test_noise_belongs_to_the_seed_and_not_to_the_place(model):
  """A solver that does nothing shows the noise; layout leaves every bit."""

  def still(denoise, coefficients, xt, t, s, noise, past):
    del denoise, coefficients, t, s, noise
    return xt, past

  pipeline = dataclasses.replace(model.pipeline, solver=still)

  def noise(*requests):
    return pipeline.latents(model.params, model.frozen, requests)

  (alone,) = noise(request())
  np.testing.assert_array_equal(noise(*crowd(), request())[-1], alone)
  assert len(np.unique(alone)) == alone.size  # no number comes twice
  assert abs(alone.mean()) < 0.2 and abs(alone.std() - 1) < 0.2
  assert not (noise(request(seed=4))[0] == alone).any()
  # A longer clip of the same seed begins alike.
  (longer,) = noise(request(size=(9, 16, 16)))
  np.testing.assert_allclose(longer[:2], alone, atol=1e-6)


def test_guidance_of_scale_one_is_none(model, latents):
  def with_guidance(found):
    pipeline = dataclasses.replace(model.pipeline, guidance=found)
    return pipeline.latents(model.params, model.frozen, [request()])[0]

  cfg = functools.partial(guidance.cfg, low=0.0, high=1.0)
  none = with_guidance(guidance.none)
  np.testing.assert_array_equal(
    with_guidance(functools.partial(cfg, scale=1.0)), none
  )
  assert np.abs(with_guidance(functools.partial(cfg, scale=3.0)) - none).max()


def test_negative_prompts_and_the_empty_one(model, latents):
  """One pass for both branches says what two passes say."""

  def guided(make, **changes):
    pipeline = dataclasses.replace(model.pipeline, guidance=make)
    asked = [*crowd(), request(**changes)]
    return pipeline.latents(model.params, model.frozen, asked)[-1]

  cfg = functools.partial(guidance.cfg, scale=3.0, low=0.0, high=1.0)

  def apart(cond, both, space):
    def two(xt, levels):
      return cond(xt, levels), both(xt, levels)[1]

    return cfg(cond, two, space)

  one = guided(cfg)
  np.testing.assert_allclose(guided(apart), one, atol=1e-4)
  # Led away from what is asked for: no guidance at all.
  np.testing.assert_allclose(
    guided(cfg, negative=CAPTION), guided(guidance.none), atol=1e-4
  )
  assert np.abs(guided(cfg, negative="a green eight") - one).max() > 1e-2


def test_shots_and_their_strengths(model):
  cfg = functools.partial(guidance.cfg, scale=3.0, low=0.0, high=1.0)
  pipeline = dataclasses.replace(model.pipeline, guidance=cfg)

  def made(**changes):
    asked = [request(size=(9, 16, 16), **changes)]
    return pipeline.latents(model.params, model.frozen, asked)[0]

  shots = ((0, CAPTION), (5, "a green eight"))
  one = made(prompt=shots)
  assert (
    np.abs(made(prompt=((0, CAPTION), (1, shots[1][1]))) - one).max() > 1e-3
  )
  np.testing.assert_allclose(
    made(prompt=shots, scales=(1.0, 1.0)), one, atol=1e-6
  )
  assert np.abs(made(prompt=shots, scales=(1.0, 0.0)) - one).max() > 1e-2
  factor = pipeline._factor(
    request(size=(9, 16, 16), prompt=shots, scales=(1.0, 0.5)), np.arange(3)
  )
  np.testing.assert_array_equal(factor, [1.0, 1.0, 0.5])


def test_the_context_may_be_shown_with_noise(model):
  seen, spy = watched()
  asked = request("i2v", context_noise=0.25)
  pipeline = dataclasses.replace(model.pipeline, guidance=spy)
  _, canvas = canvas_of(model, asked)
  (found,) = pipeline.latents(model.params, model.frozen, [asked])
  jax.effects_barrier()
  np.testing.assert_array_equal(found[0], canvas.known[0, 0])
  for xt, time in seen:
    np.testing.assert_allclose(time[0, :4, 0], 0.25)
    assert (
      xt[0, :4] != patchify.patchify(canvas.known, pipeline.patch)[0, :4]
    ).all()
  # The same noise at every step.
  assert np.ptp([xt[0, :4] for xt, _ in seen], axis=0).max() < 1e-4


def test_more_rows_than_fit_in_one_call(model, latents):
  """They are made in several calls of the same shape."""
  many = [request(seed=i) for i in range(3 * model.pipeline.rows + 1)]
  found = latents(many)
  assert len(found) == len(many)
  for i in (0, len(many) - 1):
    np.testing.assert_allclose(found[i], latents([many[i]])[0], atol=1e-4)


# Mistakes ---------------------------------------------------------------------


def long_prompt(model):
  return " ".join([CAPTION] * model.pipeline.words.max_tokens)


MISTAKES = {
  "unknown task": (
    lambda model: request(task="t3v"),
    r"'t3v'.*" + ".*".join(f"'{task}'" for task in sorted(TASKS)),
  ),
  "no source": (lambda model: request("i2v", source=None), r"sample\.source"),
  "source of another size": (
    lambda model: request("i2v", source=clip((5, 8, 16))),
    r"8x16 pixels, the output 16x16",
  ),
  "frames": (lambda model: request(size=(6, 16, 16)), r"6 frames; need 1 \+ 4"),
  "pixels": (lambda model: request(size=(5, 12, 16)), r"12 pixels; need .* 8"),
  "prompt": (
    lambda model: request(prompt=long_prompt(model)),
    r"tokens",
  ),
  "too many tokens": (
    lambda model: request(size=(4 * 400 + 1, 16, 16)),
    r"1604 tokens and a row holds",
  ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_before_sampling(model, name, monkeypatch):
  """And say what is wrong, even for the last of several requests."""
  make, wanted = MISTAKES[name]

  def never(*args):
    raise AssertionError("the sampler ran")

  monkeypatch.setattr(type(model.pipeline), "sample", never)
  with pytest.raises(ValueError, match=wanted):
    model.pipeline(model.params, model.frozen, [request(), make(model)])


def test_empty_requests(model):
  with pytest.raises(ValueError, match="at least one prompt"):
    model.pipeline(model.params, model.frozen, [])


def test_a_shape_compiles_once(model, latents):
  latents(crowd())
  compiled = []
  listen = lambda name, seconds, **_: compiled.append(name)  # noqa: E731
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    latents([request(seed=77), *crowd()])
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert not [name for name in compiled if "backend_compile" in name]
