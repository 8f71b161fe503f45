"""The sound of impacts: damped partials over a quiet ambient bed.

A body of radius r that is struck at time t with speed v sounds like a small
bar of its material: partials k that ring down together,

  y(s) = A(s) a sum_k w_k cos(2 pi f_k s) exp(-s / decay),  s = n / rate - t,

with f_k = ratio_k pitch / r, the weights w_k of vocabulary.MATERIALS scaled to
sum to 1, and the attack A rising as sin^2 from 0 at s = 0 to 1 at `ATTACK`. The
time t falls between samples: s is exact, not rounded. The amplitude is
proportional to the speed, a = LOUDEST v / FASTEST, so |y| <= a. Partials at or
above half the sample rate are left out (they would alias).

Impacts add. The sum is linear up to `KNEE`, which two bodies at full speed just
reach; above it a compressor keeps every mixture inside -1..1,

  m -> KNEE + (1 - KNEE) tanh((m - KNEE) / (1 - KNEE)),

twice continuously differentiable, on the louder channel's magnitude m; the
other channel keeps its ratio, so loud sounds stay where they are.

The bed is Gaussian noise of `BED` dB (root mean square, of full scale; per
channel, and independent between channels), coloured by a first-order
Butterworth filter for each kind of background: low rumble, wind, crackle or
white; see `BEDS`. A longer bed begins like a shorter one.

Everything is float64 and rounded to multiples of 2^-20 (120 dB down), which
float32 holds exactly: last-bit differences between machines' sines vanish.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import scipy

from sora_jax.data.world import nouns, vocabulary

ATTACK = 0.0005  # seconds
FASTEST = 6.0  # units per second, the top of the published ranges
LOUDEST = 0.25  # amplitude of an impact at that speed
KNEE = 0.5  # amplitude from which on the mixture is compressed
BED = -45.0  # dB
# Of a background kind: (type, corner frequencies in Hz) of the noise's filter,
# 6 dB an octave; None leaves it white.
BEDS: dict[str, tuple[str, tuple[float, ...]] | None] = {
  "plain": ("lowpass", (200.0,)),
  "gradient": ("bandpass", (200.0, 800.0)),
  "checker": ("bandpass", (1000.0, 3000.0)),
  "textured": None,
}
MIN_RATE = 8000  # that holds the corners of every bed and every first partial
_GRID = 2.0**20
_BLOCK = 256  # samples that share one exponential, see `ring`
_SILENT = 1e-7  # share of the amplitude below which a tail has ended


@dataclasses.dataclass(frozen=True)
class Impact:
  """One body that is struck.

  Attributes:
    time: seconds from the clip's start, >= 0; after its end it is not heard.
    material: a key of vocabulary.MATERIALS.
    radius: units, > 0.
    speed: closing speed, units per second, >= 0.
    x: units to the right of the frame's middle, for the stereo pan.

  Raises:
    ValueError: for anything else.
  """

  time: float
  material: str
  radius: float
  speed: float
  x: float = 0.0

  def __post_init__(self):
    if self.material not in vocabulary.MATERIALS:
      raise ValueError(
        f"material={self.material!r}, it must be one of "
        f"{', '.join(vocabulary.MATERIALS)}."
      )
    for name, least in (("time", 0), ("speed", 0), ("x", -math.inf)):
      value = getattr(self, name)
      if not (math.isfinite(value) and value >= least):
        raise ValueError(
          f"{name}={value} of an impact, it must be finite"
          + (f" and >= {least}." if least == 0 else ".")
        )
    if not 0 < self.radius < math.inf:
      raise ValueError(f"radius={self.radius} of an impact, it must be > 0.")

  @property
  def pitch(self) -> float:
    """Hz of the first partial."""
    return vocabulary.MATERIALS[self.material].pitch / self.radius

  @property
  def amplitude(self) -> float:
    """Bound of the impact's waveform, of full scale."""
    return LOUDEST * self.speed / FASTEST


def impacts_of(
  events: Sequence[nouns.Event], bodies: Sequence[nouns.Body]
) -> tuple[Impact, ...]:
  """One impact per body and event: two for a collision, one for a wall hit.

  Times and places are the events'; a camera that moves, or a shot that starts
  late, shifts them with dataclasses.replace. A body that grows sounds as large
  as it was at first.

  Args:
    events: of one scene, in any order.
    bodies: that the events' indices count.

  Raises:
    ValueError: for an event of a body that is not there.
  """
  found = []
  for event in events:
    for index in event.bodies:
      if not 0 <= index < len(bodies):
        raise ValueError(
          f"the event at {event.time} s strikes body {index}, the scene has "
          f"bodies 0..{len(bodies) - 1}: pass the bodies of the same scene."
        )
      body = bodies[index]
      found.append(
        Impact(
          float(event.time),
          body.material,
          float(body.radius),
          float(event.speed),
          float(event.position[1]),
        )
      )
  return tuple(found)


def synthesize(
  impacts: Sequence[Impact],
  seconds: float,
  background: str | None,
  width: float,
  rate: int = 16_000,
  channels: int = 1,
  seed: int | Sequence[int] = 0,
) -> np.ndarray:
  """The sound of a clip.

  Args:
    impacts: in any order.
    seconds: length, >= 0; 0 (an image) gives no samples.
    background: a key of vocabulary.BACKGROUNDS; None for no bed.
    width: units that the frame shows, > 0: x = -width / 2 is hard left, x =
      width / 2 hard right, and beyond the frame it stays there. The pan's power
      is constant, and mono is the power's root: it knows no place.
    rate: samples per second, >= 8000.
    channels: 1 or 2 (left, right).
    seed: of the bed, one or more numbers >= 0.

  Returns:
    float32 [samples] or [samples, 2] in -1..1, samples = round(seconds rate).

  Raises:
    ValueError: for arguments outside these ranges.
  """
  _check(seconds, background, width, rate, channels)
  samples = round(seconds * rate)
  mixture = np.zeros((channels, samples))
  for impact in impacts:
    first = math.ceil(impact.time * rate)
    tail = _samples(impact.material, rate)
    count = min(tail, samples - first)
    if count <= 0:
      continue
    lag = first / rate - impact.time
    wave = ring(impact.material, impact.pitch, rate, count, lag).real
    gains = _gains(impact.x, width) if channels == 2 else (1.0,)
    for channel, gain in zip(mixture, gains):
      channel[first : first + count] += gain * impact.amplitude * wave
  if background is not None:
    mixture += _bed(background, samples, rate, channels, seed)
  sound = np.rint(_compress(mixture) * _GRID) / _GRID
  return np.ascontiguousarray(
    sound.T if channels == 2 else sound[0], np.float32
  )


def ring(
  material: str, pitch: float, rate: int, samples: int, lag: float = 0.0
) -> np.ndarray:
  """The analytic signal of an impact of amplitude 1.

  Args:
    material: a key of vocabulary.MATERIALS.
    pitch: Hz of the first partial.
    rate: samples per second.
    samples: how many.
    lag: seconds, >= 0, from the impact to the first sample.

  Returns:
    complex128 [samples]; the real part is what sounds.
  """
  table = vocabulary.MATERIALS[material]
  ratios, weights = np.array(table.partials).T
  heard = ratios * pitch < rate / 2
  slopes = 2j * np.pi * ratios[heard] * pitch - 1 / table.decay
  weights = weights[heard] / weights.sum()
  # exp(slope n / rate) with n = BLOCK q + r splits into two short factors.
  blocks = np.arange(-(-samples // _BLOCK)) * (_BLOCK / rate) + lag
  coarse = weights * np.exp(blocks[:, None] * slopes)
  fine = np.exp(slopes[:, None] * (np.arange(_BLOCK) / rate))
  wave = (coarse @ fine).reshape(-1)[:samples]
  rise = lag + np.arange(min(samples, math.ceil(ATTACK * rate))) / rate
  attack = np.sin(np.minimum(rise / ATTACK, 1) * (np.pi / 2)) ** 2
  wave[: len(attack)] *= attack
  return wave


def _samples(material: str, rate: int) -> int:
  """Samples after which an impact cannot be told from silence."""
  decay = vocabulary.MATERIALS[material].decay
  return math.ceil(-math.log(_SILENT) * decay * rate)


def _gains(x: float, width: float) -> np.ndarray:
  """Left and right gain: their squares sum to 1."""
  angle = (np.clip(2 * x / width, -1, 1) + 1) * (np.pi / 4)
  return np.array([np.cos(angle), np.sin(angle)])


def _compress(mixture: np.ndarray) -> np.ndarray:
  """Bends what is above the knee, by the louder channel."""
  loud = np.abs(mixture).max(axis=0)
  over = np.flatnonzero(loud > KNEE)
  if over.size:
    room = 1 - KNEE
    bent = KNEE + room * np.tanh((loud[over] - KNEE) / room)
    mixture[:, over] *= bent / loud[over]
  return mixture


@functools.cache
def _colour(background: str, rate: int) -> tuple[np.ndarray, float]:
  """The bed's filter as second-order sections, and its gain to `BED`."""
  if BEDS[background] is None:
    sections = np.array([[1.0, 0, 0, 1, 0, 0]])
  else:
    kind, corners = BEDS[background]
    sections = scipy.signal.butter(
      1, np.squeeze(corners), kind, output="sos", fs=rate
    )
  impulse = np.zeros(rate)
  impulse[0] = 1
  energy = math.fsum(scipy.signal.sosfilt(sections, impulse) ** 2)
  return sections, 10 ** (BED / 20) / math.sqrt(energy)


def _bed(
  background: str, samples: int, rate: int, channels: int, seed: int
) -> np.ndarray:
  """Noise [channels, samples] in the background's colour."""
  sections, gain = _colour(background, rate)
  # The filter's start, thrown away: it fades in.
  warm = rate // 20
  kind = vocabulary.BACKGROUNDS.index(background)
  seed = np.atleast_1d(seed).tolist()
  noise = [
    np.random.default_rng((*seed, kind, channel)).standard_normal(
      warm + samples
    )
    for channel in range(channels)
  ]
  return gain * scipy.signal.sosfilt(sections, noise, axis=1)[:, warm:]


def _check(seconds, background, width, rate, channels) -> None:
  if not 0 <= seconds < math.inf:
    raise ValueError(f"seconds={seconds}, it must be finite and >= 0.")
  if background is not None and background not in vocabulary.BACKGROUNDS:
    raise ValueError(
      f"background={background!r}, it must be None (no bed) or one of "
      f"{', '.join(vocabulary.BACKGROUNDS)}."
    )
  if not 0 < width < math.inf:
    raise ValueError(f"width={width} of the frame, it must be > 0 units.")
  if rate != int(rate) or rate < MIN_RATE:
    raise ValueError(
      f"rate={rate} samples per second, it must be whole and >= {MIN_RATE}."
    )
  if channels not in (1, 2):
    raise ValueError(f"channels={channels}, it must be 1 (mono) or 2 (stereo).")
