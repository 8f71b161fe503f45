"""The sound of impacts: on time, in tune, in place, and never clipped."""

import dataclasses
import itertools

import numpy as np
import pytest

from sora_jax.data.world import nouns, sound, vocabulary

RATE = 16_000
ONE = sound.Impact(0.25, "wood", 1.0, 3.0)


def synthesize(*impacts, seconds=1.0, background=None, width=10.0, **changes):
  return sound.synthesize(impacts, seconds, background, width, **changes)


def peak_hz(wave, rate=RATE):
  """The strongest frequency, by a parabola through the spectrum's peak."""
  size = 8 * len(wave)
  power = np.log(np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size)) + 1e-9)
  k = int(np.argmax(power))
  a, b, c = power[k - 1 : k + 2]
  return (k + (a - c) / (2 * (a - 2 * b + c))) * rate / size


def formula(impact, samples, rate=RATE):
  """The docstring's sum, written as it stands."""
  table = vocabulary.MATERIALS[impact.material]
  total = sum(weight for _, weight in table.partials)
  s = np.arange(samples) / rate - impact.time
  wave = np.zeros(samples)
  for ratio, weight in table.partials:
    if ratio * impact.pitch < rate / 2:
      phase = 2 * np.pi * ratio * impact.pitch * s
      wave += weight / total * np.cos(phase) * np.exp(-s / table.decay)
  attack = np.sin(np.clip(s / sound.ATTACK, 0, 1) * np.pi / 2) ** 2
  return np.where(s >= 0, 0.25 * impact.speed / 6 * attack * wave, 0)


@pytest.mark.parametrize("when", [0.0, 0.25, 0.25 + 0.3 / RATE, 0.999])
@pytest.mark.parametrize("material", vocabulary.MATERIALS)
def test_an_impact_is_the_formula_from_its_very_sample(material, when):
  impact = sound.Impact(when, material, 0.8, 4.0)
  wave = synthesize(impact)
  assert wave.dtype == np.float32 and wave.shape == (RATE,)
  np.testing.assert_allclose(wave, formula(impact, RATE), atol=2e-6)
  assert not wave[: int(np.ceil(when * RATE))].any()
  assert wave[int(np.ceil(when * RATE)) + 1 :].any()


@pytest.mark.parametrize("background", vocabulary.BACKGROUNDS)
def test_before_an_impact_there_is_the_bed_alone(background):
  bed = synthesize(background=background)
  wave = synthesize(ONE, background=background)
  assert np.array_equal(wave[:4000], bed[:4000])
  np.testing.assert_allclose(wave - bed, synthesize(ONE), atol=2e-6)


@pytest.mark.parametrize("material", vocabulary.MATERIALS)
@pytest.mark.parametrize("radius", [0.3, 0.8, 1.4, 2.0])
def test_pitch_is_the_materials_over_the_radius(material, radius):
  wave = synthesize(sound.Impact(0.0, material, radius, 3.0))
  wanted = vocabulary.MATERIALS[material].pitch / radius
  # A window away from the attack, where the decay is even.
  assert peak_hz(wave[80:8000]) == pytest.approx(wanted, rel=0.005)


def test_partials_that_would_alias_are_left_out():
  impact = sound.Impact(0.0, "metal", 0.5, 3.0)  # partials 1900, 5244, 10260
  spectrum = np.abs(np.fft.rfft(synthesize(impact)))  # bins of 1 Hz
  assert spectrum[5234:5254].max() > 20 * spectrum[5700:5780].max()
  finer = np.abs(np.fft.rfft(synthesize(impact, rate=48_000)))
  assert finer[10250:10270].max() > 10 * finer[9000:9500].max()


@pytest.mark.parametrize("material", vocabulary.MATERIALS)
def test_loudness_is_proportional_to_speed(material):
  waves = [
    synthesize(sound.Impact(0.1, material, 1.0, speed))
    for speed in (0.0, 0.5, 1.0, 3.0, 6.0)
  ]
  peaks = [np.abs(wave).max() for wave in waves]
  assert peaks[0] == 0
  assert all(low < high for low, high in itertools.pairwise(peaks))
  np.testing.assert_allclose(6 * waves[2], waves[4], atol=1e-5)
  assert peaks[4] <= sound.LOUDEST


def test_pan_has_constant_power_and_follows_the_place():
  mono = synthesize(ONE)
  shares = []
  for x in np.linspace(-5, 5, 9):
    wave = synthesize(dataclasses.replace(ONE, x=float(x)), channels=2)
    assert wave.shape == (RATE, 2)
    wave = wave.astype(np.float64)
    np.testing.assert_allclose((wave**2).sum(1), mono**2, atol=1e-6)
    shares.append((wave[:, 1] ** 2).sum() / (wave**2).sum())
  assert shares[0] < 1e-9 and shares[-1] > 1 - 1e-9
  assert shares[4] == pytest.approx(0.5)
  assert all(low < high for low, high in itertools.pairwise(shares))
  beyond = synthesize(dataclasses.replace(ONE, x=80.0), channels=2)
  np.testing.assert_array_equal(beyond, wave)


def test_impacts_add():
  others = [
    sound.Impact(0.1, "metal", 0.7, 2.0),
    sound.Impact(0.1, "rubber", 1.3, 5.0),
    sound.Impact(0.26, "metal", 1.0, 1.0),
  ]
  together = synthesize(ONE, *others)
  apart = sum(synthesize(impact) for impact in (ONE, *others))
  np.testing.assert_allclose(together, apart, atol=4e-6)
  np.testing.assert_array_equal(together, synthesize(*others[::-1], ONE))


@pytest.mark.parametrize("channels", [1, 2])
def test_fifty_at_once_do_not_clip(channels):
  many = [
    sound.Impact(0.2, material, 1.0, 12.0, x)
    for material, x in itertools.product(vocabulary.MATERIALS, range(-8, 9))
  ]
  wave = synthesize(*many, background="textured", channels=channels)
  assert 0.9 < np.abs(wave).max() <= 1
  # Two at full speed are still where nothing is compressed.
  pair = [sound.Impact(0.2, "metal", 1.0, 6.0)] * 2
  np.testing.assert_allclose(
    synthesize(*pair), 2 * synthesize(pair[0]), atol=4e-6
  )


def test_the_bed_is_quiet_coloured_and_seeded():
  centroids = {}
  for background in vocabulary.BACKGROUNDS:
    bed = synthesize(seconds=8.0, background=background, seed=3)
    level = 20 * np.log10(bed.std())
    assert level == pytest.approx(sound.BED, abs=0.5)
    power = np.abs(np.fft.rfft(bed)) ** 2
    centroids[background] = np.average(np.arange(len(power)) / 8, weights=power)
    other = synthesize(seconds=8.0, background=background, seed=4)
    assert abs(np.corrcoef(bed, other)[0, 1]) < 0.1
  assert list(centroids) == sorted(centroids, key=lambda k: centroids[k])
  two = synthesize(seconds=8.0, background="textured", channels=2)
  assert abs(np.corrcoef(two.T)[0, 1]) < 0.05


def test_the_same_arguments_give_the_same_bytes():
  given = dict(background="plain", channels=2, seed=(1, 2, 3))
  first = synthesize(ONE, **given)
  assert synthesize(ONE, **given).tobytes() == first.tobytes()
  longer = synthesize(ONE, **given, seconds=1.5)
  np.testing.assert_array_equal(longer[:RATE], first)
  # On a grid that float32 holds, so that last bits of a sine do not matter.
  grid = first.astype(np.float64) * 2**20
  np.testing.assert_array_equal(grid, np.rint(grid))


@pytest.mark.parametrize("fps, frames", [(8, 17), (24, 51), (7.5, 16)])
def test_length_is_that_of_the_frames_and_content_knows_no_frame_rate(
  fps, frames
):
  seconds = frames / fps
  wave = synthesize(ONE, seconds=seconds, background="plain")
  assert len(wave) == round(seconds * RATE)
  longest = synthesize(ONE, seconds=3.0, background="plain")
  np.testing.assert_array_equal(wave, longest[: len(wave)])


def test_an_image_has_no_samples_and_late_impacts_do_not_sound():
  assert synthesize(ONE, seconds=0.0, background="plain").shape == (0,)
  assert synthesize(ONE, seconds=0.0, channels=2).shape == (0, 2)
  assert not synthesize(dataclasses.replace(ONE, time=7.0)).any()


def test_both_bodies_of_a_collision_sound_and_a_wall_does_not():
  path = nouns.Path.of((0.0, 0.0))
  bodies = [
    nouns.Body("disc", "red", 0.8, "metal", path),
    nouns.Body("disc", "blue", 1.2, "wood", path),
  ]
  events = [
    nouns.Event(0.5, "bodies", (0, 1), (1.0, -2.0), 3.0),
    nouns.Event(0.7, "wall", (1,), (4.0, 2.5), 1.5),
  ]
  assert sound.impacts_of(events, bodies) == (
    sound.Impact(0.5, "metal", 0.8, 3.0, -2.0),
    sound.Impact(0.5, "wood", 1.2, 3.0, -2.0),
    sound.Impact(0.7, "wood", 1.2, 1.5, 2.5),
  )
  with pytest.raises(ValueError, match=r"strikes body 1.*bodies 0\.\.0"):
    sound.impacts_of(events, bodies[:1])


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"seconds": -1.0}, "seconds=-1"),
    ({"background": "sky"}, "plain, gradient"),
    ({"width": 0.0}, "width=0"),
    ({"rate": 4000}, "rate=4000.*8000"),
    ({"channels": 3}, "channels=3"),
  ],
)
def test_bad_arguments_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    synthesize(ONE, **changes)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"material": "glass"}, "'glass'.*rubber, wood, metal"),
    ({"radius": 0.0}, "radius=0"),
    ({"speed": -1.0}, "speed=-1"),
    ({"time": float("nan")}, "time=nan"),
    ({"x": float("inf")}, "x=inf"),
  ],
)
def test_bad_impacts_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(ONE, **changes)
