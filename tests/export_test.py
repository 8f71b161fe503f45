"""What is given away is what was trained, and a run can begin with it."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from sora_jax import check, export, modes, trained
from sora_jax.models.autoencoder import ENCODER
from sora_jax.run import Run
from sora_jax.training import checkpoint, exported
from sora_jax.utils import sections, tree

HERE = pathlib.Path(__file__)
# Where the weights seem to come from; no test has so many devices.
POD = {"mesh": {"data": -1, "fsdp": 8}, "strategy": "fsdp"}

STUDENT = {"name": "consistency", "steps": 4, "parts": 1, "scale": 2.0}


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
  """A run with checkpoints of random weights, as training leaves them."""
  run = Run(model.run.config, tmp_path_factory.mktemp("export") / "run")
  shutil.copytree(model.run.workdir, run.workdir)
  codec = model.autoencoder.replace(frozen={"stats": model.frozen["stats"]})
  config = sections.plain(run.config) | POD
  # A task whose source is not here.
  gone = {"task": "frames", "source": "gone.png", "at": (0, 4)}
  gone |= {"names": "vbench", "clips": 0}  # with too few of each for it
  config["sample"] = dict(config["sample"]) | gone
  for name, state in (("autoencoder", codec), ("dit", model.state)):
    with checkpoint.Checkpointer(
      run.workdir / name, keep=1, config=config
    ) as saved:
      meta = {"finished": True, "seconds": 12.0}
      saved.save(4, state, force=True, meta=meta)
  return run


@pytest.fixture(scope="module")
def folder(run):
  return export.write(run)


def given(tiny, folder, **changes):
  names = ("autoencoder", "dit")
  return tiny({f"{n}.checkpoint": str(folder / n) for n in names} | changes)


def test_weights_are_the_averaged_ones_rounded(run, folder):
  for name in ("autoencoder", "dit"):
    before = dict(tree.named(run.restored(name)))
    after = dict(tree.named(Run.open(folder).restored(name)))
    assert before.keys() == after.keys()
    for key, old in before.items():
      new, old = np.asarray(after[key]), np.asarray(old)
      assert new.dtype == old.dtype
      if old.ndim < exported.HALF:
        np.testing.assert_array_equal(new, old)
      else:
        np.testing.assert_allclose(new, old, rtol=2**-11, atol=1e-7)
  size = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
  dit, codec = run.restored("dit"), run.restored("autoencoder")
  numbers = tree.size(dit.ema) + tree.size((codec.ema, codec.frozen))
  assert size < 2.2 * numbers + 40_000  # half of them, and nothing twice


def test_a_run_of_a_pod_opens_on_one_device(run):
  there = dict(tree.named(run.restored("dit")))
  for name, here in tree.named(Run.open(run.workdir).restored("dit")):
    np.testing.assert_array_equal(here, there[name])


THREE = """
import pathlib
import conftest
from sora_jax import modes
from sora_jax.run import Run
folder = pathlib.Path(sys.argv[2])
(video,) = Run.open(folder).sample(["a red three"], size=(5, 16, 16))
print(video.shape)
config = conftest.tiny({"sample.clips": 0})
with config.unlocked():
  config.mesh = {"data": -1, "fsdp": 1}
  for name in ("autoencoder", "dit"):
    config[name].checkpoint = str(folder / name)
run = Run(config, pathlib.Path(sys.argv[3]))
modes.sample(run)
try:
  modes.train(run)
except ValueError as error:
  print(error)
"""


def test_three_devices_sample_what_they_could_not_train(
  folder, tmp_path, on_devices
):
  """Batches of eight do not divide over them, and are not asked for."""
  said = on_devices(3, THREE, HERE.parent, folder, tmp_path / "run")
  assert said.startswith("(5, 16, 16, 3)")
  assert "dit.rows.rows is 8, which does not divide over 3" in said
  assert len(list((tmp_path / "run" / "samples").glob("*.mp4"))) == 2


def test_an_exported_folder_samples_as_the_run_does(run, folder):
  prompts = ["a red three moves left on a black background"]
  changes = {"size": (5, 16, 16)}
  (one,) = run.sample(prompts, **changes)
  (other,) = Run.open(folder).sample(prompts, **changes)
  assert one.shape == other.shape
  assert np.abs(one.astype(int) - other).mean() < 3.0


def test_long_videos_from_python_are_refused_at_once(run, monkeypatch):
  monkeypatch.setattr(Run, "restored", None)  # before weights are read
  fresh, prompt = Run(run.config, run.workdir), "a red three"
  for seconds, changes, message in (
    (0, {}, "seconds=0: need more than 0"),
    (4.0, {"size": (5, 16, 16), "keep": 2}, "raise sample.size"),
  ):
    with pytest.raises(ValueError, match=message):
      fresh.roll(prompt, seconds, **changes)


def test_the_card_says_what_it_is(folder):
  text = (folder / "README.md").read_text()
  for part in ("| stage | parameters |", "sha256", '"process": {', "devices"):
    assert part in text
  assert str(folder.parents[1]) not in text


def test_a_config_may_name_it(tiny, folder, tmp_path):
  config = given(tiny, folder, **{"sample.clips": 0})
  run = Run(config, tmp_path / "run")
  modes.MODES["sample"](run)
  run.writer.close()
  assert len(list((run.workdir / "samples").glob("*.mp4"))) == 2
  theirs = (folder / "tokenizer.json").read_text()
  assert (run.workdir / "tokenizer.json").read_text() == theirs


def test_an_autoencoder_begins_with_it(tiny, run, folder, tmp_path):
  ours = folder / "autoencoder"
  # A second player, of which the folder knows nothing, learns anew.
  config = tiny({"autoencoder.init": str(ours)})
  with config.unlocked():
    config.autoencoder.objective.adversary.weight = 0.1
    config.dit.process.target = "x0"  # of another transformer, no matter
  begun = Run(config, tmp_path / "run")
  trained.check_given(config, begun.workdir)
  video = np.zeros((2, *config.autoencoder.size, 3), np.uint8)
  batch = {"video": video, "mask": np.ones(video.shape[:-1], bool)}
  fixed = {"stats": begun.codec.no_stats()}
  stage = begun.stage("autoencoder", batch, fixed, epoch=1)
  state = trained.fresh(config, "autoencoder", stage, fixed)
  wanted = Run.open(folder).restored("autoencoder").ema["ae"]
  for found in (state.params, state.ema):
    assert set(found) == {"ae", "disc"}
    jax.tree.map(np.testing.assert_array_equal, found["ae"], wanted)
  # Its latents change, and are measured anew.
  assert (np.asarray(state.frozen["stats"]["std"]) == 1).all()
  other = tiny({"autoencoder.init": str(ours), "autoencoder.model.width": 4})
  with pytest.raises(ValueError, match="width"):
    trained.check_given(other, begun.workdir)
  # What the run has trained itself, it goes on with.
  trained.check_given(other, run.workdir)
  both = {"autoencoder.init": str(ours), "autoencoder.checkpoint": str(ours)}
  with pytest.raises(ValueError, match="set one of them"):
    trained.check_given(tiny(both), begun.workdir)


def test_training_begins_with_it(tiny, folder, tmp_path):
  run = Run(given(tiny, folder), tmp_path / "run")
  batch, shapes = run.abstract_inputs("dit")
  fixed = run.autoencoder()
  assert jax.tree.map(np.shape, fixed) == jax.tree.map(np.shape, shapes)
  batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), batch)
  stage = run.stage("dit", batch, fixed, epoch=1)
  state = trained.fresh(run.config, "dit", stage, fixed)
  wanted = run.restored("dit").ema
  for found in (state.params, state.ema):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
  # A step may take both: they share no memory.
  state, _ = stage.step(state, jax.device_put(batch))
  assert int(state.step) == 1


def test_a_student_learns_from_it_and_resumes(tiny, folder, tmp_path, capsys):
  for until in (2, 4):
    config = given(tiny, folder)
    with config.unlocked():
      config.dit.objective = STUDENT
      config.dit.evaluators = {}
      config.dit.schedule.until = f"{until} steps"
      config.sample.update(clips=0, solver={"name": "renoise"})
      config.sample.guidance = {"name": "none"}
    run = Run(config, tmp_path / "run")
    modes.train(run)
    run.writer.close()
  said = capsys.readouterr().out
  assert f"begins with the weights in {folder / 'dit'}" in said
  assert "dit: resumed at step 2" in said
  assert len(list((run.workdir / "samples").glob("*.mp4"))) == 2
  state = run.restored("dit")
  assert int(state.step) == 4 and "teacher" not in state.frozen
  before = Run.open(folder).restored("dit").ema
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.ema, before)
  assert 0 < max(jax.tree.leaves(moved)) < 0.1
  # With its teacher's answers, and those of no other.
  _, frozen = run.abstract_inputs("dit")
  wanted = {"frozen": {"teacher": frozen["teacher"]}}
  saved = checkpoint.load(run.workdir / "dit", wanted)["frozen"]["teacher"]
  jax.tree.map(np.testing.assert_array_equal, saved, before["dit"])


def test_a_student_needs_a_teacher(tiny, tmp_path):
  config = tiny()
  with config.unlocked():
    config.dit.objective = STUDENT
  with pytest.raises(ValueError, match=r"set dit\.checkpoint to its folder"):
    modes.train(Run(config, tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_latents_of_another_autoencoder_are_refused(tiny, folder, tmp_path):
  run = Run(given(tiny, folder), tmp_path / "run")
  fixed = run.autoencoder()
  batch, _ = run.abstract_inputs("dit")
  stage = run.stage("dit", batch, fixed, epoch=1)
  other = jax.tree.map(lambda x: x + 1, fixed)
  with pytest.raises(ValueError, match="latents of another autoencoder"):
    trained.fresh(run.config, "dit", stage, other)


def test_a_decoder_that_was_trained_on_is_used(tiny, folder, tmp_path):
  ours = folder / "autoencoder"
  state = Run.open(folder).restored("autoencoder")
  about = {k: exported.about(ours, k) for k in ("config", "meta")}

  def written(name, moves):
    params = {
      k: jax.tree.map(lambda x: x + 1, v) if moves(k) else v
      for k, v in state.ema["ae"].items()
    }
    parts = {"step": state.step, "ema": {"ae": params}, "frozen": state.frozen}
    exported.write(tmp_path / name, parts, {}, **about)
    changes = {"autoencoder.checkpoint": str(tmp_path / name)}
    run = Run(given(tiny, folder, **changes), tmp_path / f"run {name}")
    return run, run.autoencoder()["autoencoder"]

  later, wanted = written("later", lambda name: not name.startswith(ENCODER))
  found = later.restored("dit").frozen["autoencoder"]
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  before = Run.open(folder).restored("dit").frozen["autoencoder"]
  assert tree.digest(found) != tree.digest(before)
  other, _ = written("other", lambda name: name.startswith(ENCODER))
  with pytest.raises(ValueError, match="latents of another autoencoder"):
    other.restored("dit")


def test_another_model_is_refused(tiny, folder, tmp_path):
  changes = {"dit.model.width": 32, "sample.clips": 0}
  run = Run(given(tiny, folder, **changes), tmp_path / "run")
  with pytest.raises(ValueError, match=r"dit\.model: saved .*now"):
    modes.MODES["sample"](run)


def test_half_a_folder_says_what_is_missing(folder, tmp_path):
  half = tmp_path / "half"
  shutil.copytree(folder, half)
  shutil.rmtree(half / "autoencoder")
  with pytest.raises(FileNotFoundError, match="copy both"):
    Run.open(half).restored("dit")


def test_a_given_transformer_reads_with_its_own_words(tiny, folder, tmp_path):
  config = given(tiny, folder, **{"sample.clips": 0})
  run = Run(config, tmp_path / "run")
  run.workdir.mkdir()
  (run.workdir / "tokenizer.json").write_text("of another")
  theirs = (folder / "tokenizer.json").read_text()
  assert run.data.tokenizer().json == theirs
  assert (run.workdir / "tokenizer.json").read_text() == theirs


def test_a_denoiser_does_not_pass_for_a_student(tiny, folder, tmp_path):
  config = given(tiny, folder)
  with config.unlocked():
    config.dit.objective = STUDENT
  with pytest.raises(ValueError, match=r"learned 'denoise'.*train first"):
    Run(config, tmp_path / "run").restored("dit")
  saved = {"dit": {"objective": STUDENT | {"parts": 2}}}
  with pytest.raises(ValueError, match=r"parts=2, .* parts=1: train first"):
    check.same_objective(config, saved, folder)
  check.same_objective(config, {"dit": {"objective": STUDENT}}, folder)


def test_a_transformer_is_given_with_its_autoencoder(tiny, folder, tmp_path):
  config = tiny({"dit.checkpoint": str(folder / "dit")})
  with pytest.raises(ValueError, match=r"set autoencoder\.checkpoint to that"):
    modes.train(Run(config, tmp_path / "run"))
  wrong = given(tiny, folder.parent / "nowhere")
  with pytest.raises(FileNotFoundError):
    modes.train(Run(wrong, tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_no_training_goes_on_in_an_exported_folder(tiny, folder):
  before = sorted(folder.rglob("*"))
  with pytest.raises(ValueError, match=r"exported weights.*another --workdir"):
    Run(tiny(), folder).train_autoencoder()
  new = set(folder.rglob("*")) - set(before)
  assert not [path for path in new if path.parent.name == "autoencoder"]


def test_what_is_exported_names_nothing_of_this_machine(tiny, tmp_path):
  config = tiny({"dit.evaluators.frechet.features": "i3d"})
  config.dit.evaluators.frechet.path = str(tmp_path / "i3d.safetensors")
  config.sample.source = str(tmp_path / "picture.png")
  with config.unlocked():
    config.update(POD)
  alone = export._alone(config)
  assert str(tmp_path) not in alone.to_json_best_effort()
  Run(alone.lock(), tmp_path / "there")


def test_a_damaged_file_says_so(folder, tmp_path):
  broken = tmp_path / "broken"
  shutil.copytree(folder, broken)
  (broken / "dit" / exported.NAME).write_bytes(b"nothing")
  with pytest.raises(ValueError, match="no safetensors file"):
    Run.open(broken)


def test_weights_beyond_float16_are_not_written(tmp_path):
  with pytest.raises(ValueError, match="kernel has a weight of 1e\\+06"):
    exported.write(
      tmp_path, {"kernel": np.full((2, 2), 1e6, np.float32)}, {}, meta={}
    )
  assert not list(tmp_path.iterdir())


def test_what_is_not_trained_is_not_exported(tiny, tmp_path):
  with pytest.raises(FileNotFoundError, match="Train first"):
    export.write(Run(tiny(), tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_decoder_is_trained_on_and_the_latents_stay(tiny, folder, tmp_path):
  """What has learned the latents goes on with them, and decodes better."""
  ours, alone = (
    folder / "autoencoder",
    {"autoencoder.objective.part": "decoder"},
  )
  config = tiny({**alone, "autoencoder.init": str(ours)})
  with config.unlocked():
    config.stages = ("autoencoder",)
    config.autoencoder.optimizer.weight_decay = 0.5
  run = Run(config, tmp_path / "run")
  modes.MODES["train"](run)
  run.writer.close()
  before = Run.open(folder).restored("autoencoder")
  after = run.restored("autoencoder")
  same, now = (
    {k: v for k, v in state.ema["ae"].items() if k.startswith(ENCODER)}
    for state in (before, after)
  )
  for pair in ((same, now), (before.frozen["stats"], after.frozen["stats"])):
    jax.tree.map(np.testing.assert_array_equal, *pair)
  assert {"enc_in", "linear_in"} <= set(now)
  rest = set(after.ema["ae"]) - set(now)
  assert {"dec_in", "linear_out"} <= rest
  for name in rest:
    moved = jax.tree.map(
      lambda x, y: float(np.abs(x - y).max()),
      before.ema["ae"][name],
      after.ema["ae"][name],
    )
    assert max(jax.tree.leaves(moved)) > 0, name
  with pytest.raises(ValueError, match=r"part='decoder'.*autoencoder\.init"):
    trained.check_given(tiny(alone), tmp_path / "none")
  trained.check_given(tiny(alone), tmp_path / "run")  # it goes on from its own
