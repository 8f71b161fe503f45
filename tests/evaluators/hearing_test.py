"""The listener hears what sounds, and nothing else."""

import dataclasses
import functools

import numpy as np
import pytest

from sora_jax.data.world import sound, vocabulary
from sora_jax.evaluators import hearing

RATE, SECONDS, WIDTH = 16_000, 2.0, 10.0
MATERIALS = tuple(vocabulary.MATERIALS)
CLIPS = 8


def impacts(seed, gap=0.06, count=6):
  """Impacts of one to three bodies, at least `gap` seconds apart."""
  rng = np.random.default_rng((7, seed))
  bodies = [
    (MATERIALS[rng.integers(3)], float(rng.uniform(0.3, 2.0)))
    for _ in range(rng.integers(1, 4))
  ]
  free = SECONDS - 0.1 - gap * (count - 1)
  times = np.sort(rng.uniform(0, free, count)) + gap * np.arange(count)
  return [
    sound.Impact(
      float(t),
      *bodies[rng.integers(len(bodies))],
      float(rng.uniform(0.6, 6.0)),
      float(rng.uniform(-5, 5)),
    )
    for t in times
  ]


def collisions(seed):
  """Three collisions: two bodies sound at once."""
  rng = np.random.default_rng((8, seed))
  return [
    sound.Impact(t, MATERIALS[rng.integers(3)], r, speed)
    for t, speed in zip((0.1, 0.7, 1.3), rng.uniform(1, 6, 3).tolist())
    for r in (rng.uniform(0.7, 0.9), rng.uniform(1.15, 1.4))
  ]


def audio(truth, seed=0, channels=2):
  background = vocabulary.BACKGROUNDS[seed % 4]
  return sound.synthesize(
    truth, SECONDS, background, WIDTH, RATE, channels, seed
  )


def score(wave, truth, width=WIDTH):
  heard = hearing.listen(wave, RATE)
  return hearing.score(heard, truth, SECONDS, width)


@functools.cache
def table(make):
  """Mean scores of real clips."""
  rows = [score(audio(make(s), s), make(s)) for s in range(CLIPS)]
  return {name: np.mean([row[name] for row in rows]) for name in rows[0]}


def test_apart_by_60_ms_everything_is_read_back():
  means = table(impacts)
  for name in ("recall", "precision", "pitch", "material", "exact"):
    assert means[name] >= 0.99, means
  assert means["sync_ms"] < 1, means
  assert means["loudness_db"] < 0.5, means
  assert means["loudness_rank"] > 0.99, means
  assert means["pan"] < 0.05, means
  assert means["debris"] == 0, means


def test_overlapping_impacts_are_mostly_read_back():
  close = table(functools.partial(impacts, gap=0.0))
  assert close["recall"] >= 0.93 and close["precision"] >= 0.93, close
  both = table(collisions)
  assert both["recall"] >= 0.95 and both["precision"] >= 0.9, both


@pytest.mark.parametrize("material", MATERIALS)
def test_a_body_that_bounces_in_its_own_ringing_is_heard(material):
  """Also where the new ring and the old cancel, or build up."""
  rows = []
  for step in np.linspace(0.0795, 0.081, 5):
    truth = [
      sound.Impact(0.2 + k * float(step), material, 1.0, 4.0 * 0.8**k)
      for k in range(4)
    ]
    rows.append(score(audio(truth), truth))
  assert min(row["recall"] for row in rows) == 1, rows
  assert np.mean([row["exact"] for row in rows]) > 0.9, rows


def test_mono_is_heard_as_well_and_has_no_place():
  truth = impacts(3)
  heard = hearing.listen(audio(truth, channels=1), RATE)
  assert len(heard) == len(truth) and not heard.pan.any()
  np.testing.assert_allclose(heard.time, [t.time for t in truth], atol=0.003)
  np.testing.assert_allclose(heard.pitch, [t.pitch for t in truth], rtol=0.01)
  assert heard.bed == pytest.approx(sound.BED, abs=1.5)


def test_loudness_and_place_are_those_of_the_impact():
  for speed, x in ((0.6, 0.0), (2.0, -4.0), (6.0, 5.0)):
    truth = [sound.Impact(0.5, "wood", 1.0, speed, x)]
    heard = hearing.listen(audio(truth), RATE)
    (level,) = heard.loudness
    assert level == pytest.approx(20 * np.log10(speed / 24), abs=1)
    assert heard.pan[0] == pytest.approx(x / 5, abs=0.1)


def means(wrong, clips=6):
  """Mean scores after `wrong(wave, truth)` spoiled the audio of a clip."""
  rows = []
  for seed in range(clips):
    truth = impacts(seed)
    rows.append(score(wrong(audio(truth, seed), seed), truth))
  return {k: np.nanmean([row[k] for row in rows] + [np.nan]) for k in rows[0]}


def late(wave, _):
  pad = np.zeros((1600, 2), np.float32)
  return np.concatenate([pad, wave[:-1600]])


def test_another_clips_audio_is_at_chance():
  told = means(lambda wave, seed: audio(impacts(seed + 100), seed))
  assert told["exact"] < 0.1 and told["pitch"] < 0.3, told


def test_delay_is_the_sync_error():
  told = means(late)
  assert told["sync_ms"] == pytest.approx(100, abs=15), told
  assert told["exact"] < 0.1 and told["pitch"] > 0.8, told


@pytest.mark.filterwarnings("ignore:Mean of empty")
def test_silence_and_hiss_are_not_heard():
  rng = np.random.default_rng(0)
  hiss = rng.normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
  for wave in (np.zeros((2 * RATE, 2), np.float32), hiss):
    told = means(lambda *_, wave=wave: wave, clips=2)
    assert told["recall"] == told["exact"] == told["debris"] == 0
    assert np.isnan(told["sync_ms"]) and np.isnan(told["precision"])
  assert told["bed_db"] == pytest.approx(-20, abs=0.2)


def test_doubled_speed_is_caught():
  def fast(wave, _):
    return np.concatenate([wave[::2], np.zeros_like(wave[::2])])

  told = means(fast, clips=1)
  assert told["exact"] < 0.1 and told["pitch"] < 0.3, told


def test_what_nothing_explains_is_debris():
  truth = impacts(1)
  extra = [sound.Impact(1.95, "wood", 1.0, 3.0)]
  extra.append(sound.Impact(0.02, "metal", 0.9, 3.0))
  told = score(audio(truth + extra), truth)
  clean = score(audio(truth), truth)
  assert clean["precision"] == 1 and clean["debris"] == 0
  assert told["recall"] == 1
  assert told["precision"] == pytest.approx(6 / 8)
  assert told["debris"] == pytest.approx(1.0)
  missing = score(audio(truth[:3]), truth)
  assert missing["recall"] == pytest.approx(0.5)


def test_wrong_pitch_loudness_and_place_are_told_apart():
  truth = [
    sound.Impact(0.3 * k, "wood", 0.8, 1.0 + k, 0.0) for k in range(1, 6)
  ]
  lower, equal, aside = (
    score(audio([dataclasses.replace(t, **change) for t in truth]), truth)
    for change in ({"radius": 0.9}, {"speed": 3.0}, {"x": 4.0})
  )
  assert lower["pitch"] == 0 and lower["recall"] == lower["material"] == 1
  assert equal["pitch"] == 1 and equal["loudness_db"] > 2
  assert aside["pan"] == pytest.approx(0.8, abs=0.05) and aside["exact"] == 1


def test_nothing_to_hear_is_not_a_score():
  told = score(audio([]), [])
  assert told["debris"] == 0
  assert np.isnan(told["recall"]) and np.isnan(told["exact"])
  faint = [sound.Impact(0.5, "wood", 1.0, 0.05)]
  assert np.isnan(score(audio(faint), faint)["recall"])
  assert len(hearing.listen(np.zeros(0, np.float32), RATE)) == 0


@pytest.mark.parametrize(
  "wave, rate, message",
  [
    (np.zeros((2, 100)), RATE, r"\(2, 100\).*\[samples, 2\]"),
    (np.zeros(100, np.int16), RATE, "int16.*finite floats"),
    (np.full(100, np.nan), RATE, "nan"),
    (np.zeros(100), 4000, "rate=4000.*8000"),
  ],
)
def test_bad_audio_is_named(wave, rate, message):
  with pytest.raises(ValueError, match=message):
    hearing.listen(wave, rate)


def test_an_image_cannot_be_scored():
  with pytest.raises(ValueError, match="seconds=0"):
    hearing.score(hearing.listen(np.zeros(9), RATE), [], 0)
