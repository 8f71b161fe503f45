"""Takes audio apart into damped rings, by matching pursuit.

After Goodwin & Vetterli 1999, with the rings of `data.world.sound` as atoms:

1. A spectrogram with a window that starts at once and dies away shows where the
   audio rings most; its maximum, well over the bed, is a new ring. A parabola
   through the spectrum's peak gives its pitch, and the correlation with each
   material's ring its onset and its material.
2. Onsets and pitches of all rings found so far are refined together, by
   Gauss-Newton steps on the waveform, with amplitudes and phases free.
3. What they explain is subtracted, and the search goes on in what is left.

So a second impact is heard in the first one's ringing, even of the same pitch
and where the two cancel, and harmonics belong to their impact.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import scipy

from sora_jax.data.world import sound, vocabulary

MOST = 48  # impacts that are heard in one clip
LOWEST = 60.0  # Hz of a first partial
FAINTEST = -46.0  # dB below which nothing is an impact
HOP = 0.004  # seconds between the spectrogram's columns
SPAN = 0.064  # seconds of its window
FADE = 0.04  # seconds in which the window falls to 1/e
CLEAR = 30.0  # power of an impact's peak over the bed's mean there
NEAR = 0.12  # seconds in which one impact may mislead about another
BROAD = 150.0  # Hz to either side over which the bed is even
SHADE = 0.15  # share of a ring below which none that begins with it is heard
MASKED = 0.05  # share of the loudest ring nearby below which nothing is heard
ALIKE = 0.01  # relative difference in pitch below which two rings are one
ONSET = 0.015  # seconds in which one onset may look like two
_RATIOS = sorted(
  {r for m in vocabulary.MATERIALS.values() for r, _ in m.partials if r > 1}
)
_STEP = 1e-5  # relative, of numerical derivatives


@dataclasses.dataclass
class Atom:
  """A ring in the making.

  Attributes:
    time: of the onset, seconds.
    pitch: of the first partial, Hz.
    material: a key of vocabulary.MATERIALS.
    gain: complex amplitude.
    again: times that it was heard anew.
    paired: whether another began with it.
  """

  time: float
  pitch: float
  material: str
  gain: complex = 0.0
  again: int = 0
  paired: bool = False

  def wave(self, rate: int, samples: int, dt=0.0, df=0.0):
    """First sample and the ring of gain 1, moved by dt and df."""
    first = max(0, math.ceil(self.time * rate))
    count = min(samples - first, _lasting(self.material, rate))
    lag = first / rate - self.time - dt
    return first, sound.ring(
      self.material, self.pitch + df, rate, max(0, count), lag
    )


def pursue(mono: np.ndarray, rate: int) -> list[Atom]:
  """The rings of a mono signal [samples]; none in less than `SPAN` seconds."""
  atoms, rest = [], mono
  if len(mono) < round(SPAN * rate):
    return atoms
  while len(atoms) < MOST:
    found = _candidate(rest, rate, atoms)
    if found is None:
      break
    twin = _twin(found, atoms)
    if twin is None:
      heard = [_settle([found], rest, rate, SPAN)[0]]
    else:
      # More likely a misheard one's: hear that again, now without the others.
      atoms.remove(twin)
      rest = _without(rest, twin, -1, rate)
      heard = _anew(rest, twin, found.pitch, rate)
    atoms += heard
    rest = _refine(atoms, mono, rate)
    for j, atom in enumerate(atoms[: -len(heard)]):
      if abs(atom.time - found.time) < NEAR and atom.again < 2:
        atoms[j], rest = _revised(atom, rest, rate)
  atoms = _fewer(_distinct(atoms), mono, rate)
  for _ in range(3):
    atoms = _distinct(atoms)
    _refine(atoms, mono, rate)
  return _distinct(atoms)


def _fewer(atoms: list[Atom], mono: np.ndarray, rate: int) -> list[Atom]:
  """Without atoms that only repair what another one explains as well alone."""
  rest = _refine(atoms, mono, rate)
  for atom in sorted(atoms, key=lambda a: abs(a.gain)):
    others = [dataclasses.replace(a, again=0) for a in atoms if a is not atom]
    twin = _twin(atom, others)
    if twin is None:
      continue
    both = _without(_without(rest, atom, -1, rate), twin, -1, rate)
    one, _ = _settle(
      [_fit(both, rate, twin.time, twin.pitch)], both, rate, SPAN
    )
    less = _without(both, one, 1, rate)
    first = max(0, round((twin.time - 0.02) * rate))
    there = slice(first, first + round(3 * SPAN * rate))
    if np.sum(less[there] ** 2) < 1.1 * np.sum(rest[there] ** 2):
      others[others.index(twin)] = one
      atoms, rest = others, less
  return atoms


def _distinct(atoms: list[Atom]) -> list[Atom]:
  """Without the faint, and without the small rests of louder onsets."""
  kept = []
  for atom in sorted(atoms, key=lambda a: -abs(a.gain)):
    if abs(atom.gain) > 10 ** (FAINTEST / 20) and not any(
      _belongs(atom, louder) for louder in kept
    ):
      kept.append(atom)
  return kept


def _belongs(atom: Atom, louder: Atom) -> bool:
  """Whether the two began together and cannot be told apart."""
  alike = ALIKE if atom.paired and louder.paired else 0.1
  return abs(atom.time - louder.time) < ONSET and (
    abs(math.log(atom.pitch / louder.pitch)) < alike
    or abs(atom.gain) < SHADE * abs(louder.gain)
  )


def _without(rest: np.ndarray, atom: Atom, sign: int, rate: int):
  """`rest` without the atom's ring (sign 1), or with it (sign -1)."""
  first, wave = atom.wave(rate, len(rest))
  rest = rest.copy()
  rest[first : first + len(wave)] -= sign * (atom.gain * wave).real
  return rest


def _revised(atom: Atom, rest: np.ndarray, rate: int):
  """The atom heard again, if that explains more, and what is left then.

  What sounded along when it was heard first may have misled.
  """
  own = _without(rest, atom, -1, rate)
  first = round(atom.time * rate)
  there = slice(first, first + round(SPAN * rate))
  if np.sum(rest[there] ** 2) < 0.003 * np.sum(own[there] ** 2):
    return atom, rest
  other = _fit(own, rate, atom.time, atom.pitch)
  other.again = atom.again + 1
  other, _ = _settle([other], own, rate, SPAN)
  less = _without(own, other, 1, rate)
  if np.sum(less**2) < 0.9 * np.sum(rest**2):
    return other, less
  return atom, rest


def _twin(found: Atom, atoms: list[Atom]) -> Atom | None:
  """The loudest atom that `found` may be the rest of; each is asked twice."""
  near = []
  for atom in atoms:
    lag, ratio = found.time - atom.time, found.pitch / atom.pitch
    apart = abs(math.log(ratio))
    # A bounce has the very pitch; what beats leave behind is beside it.
    same = (abs(lag) < ONSET and apart < 0.2) or (
      0 < lag < NEAR and (0.004 if lag > 0.05 else 0) <= apart < 0.1
    )
    partial = -ONSET < lag < 0.1 and any(
      abs(ratio / r - 1) < 0.02 for r in _RATIOS
    )
    if (same or partial) and atom.again < 2:
      near.append(atom)
  return max(near, key=lambda a: abs(a.gain), default=None)


def _candidate(rest, rate, atoms) -> Atom | None:
  """The strongest new ring, or None where only the bed is left."""
  power, step = _spectrogram(rest, rate)
  times = np.arange(len(power)) * (round(HOP * rate) / rate)
  least = np.full(len(times), 10 ** (FAINTEST / 20))
  for atom in atoms:
    decay = vocabulary.MATERIALS[atom.material].decay
    lag = times - atom.time
    ringing = np.where(lag > -SPAN, np.exp(-np.maximum(lag, 0) / decay), 0)
    least = np.maximum(least, MASKED * abs(atom.gain) * ringing)
  # A ring of amplitude a peaks in the spectrum at a times half the window.
  least = (least * _window(rate).sum() / 2) ** 2
  clear = power > np.maximum(least[:, None], CLEAR * _floor(power, step))
  clear[:, : math.ceil(LOWEST / step)] = clear[:, -1] = False
  row, column = np.unravel_index(np.argmax(power * clear), power.shape)
  if not clear[row, column]:
    return None
  a, b, c = np.log(power[row, column - 1 : column + 2] + 1e-30)
  peak = column + (a - c) / (2 * min(a - 2 * b + c, -1e-9))
  return _fit(rest, rate, float(times[row]), float(peak * step))


def _fit(rest, rate, time, pitch) -> Atom:
  """The material, onset and pitch that explain most near (time, pitch)."""
  fits = (
    _onset(rest, rate, Atom(time, pitch + shift, material), 0.03)
    for material in vocabulary.MATERIALS
    for shift in (-4.0, -2.0, 0.0, 2.0, 4.0)
  )
  return max(fits, key=lambda fit: fit[0])[1]


def _onset(rest, rate, atom: Atom, near: float) -> tuple[float, Atom]:
  """The energy that the atom explains at its best onset, and it there."""
  first = max(0, round((atom.time - near) * rate))
  piece = rest[first : round((atom.time + near + SPAN) * rate)]
  wave = sound.ring(atom.material, atom.pitch, rate, round(SPAN * rate))
  fit = np.abs(scipy.signal.correlate(piece, wave.conj(), "full", "fft")) ** 2
  fit = fit[len(wave) - 1 :]
  # At the end of the audio, less of the ring is seen.
  energy = np.cumsum(np.abs(wave) ** 2) + 1e-12
  seen = np.minimum(len(piece) - np.arange(len(piece)), len(wave))
  fit = np.where(seen > 0.25 * len(wave), fit / energy[seen - 1], 0)
  fit = fit[: round((atom.time + near) * rate) - first + 1]
  # What only grows towards an edge is another's ring, not an onset.
  peaks, _ = scipy.signal.find_peaks(fit)
  at = int(peaks[np.argmax(fit[peaks])] if peaks.size else np.argmax(fit))
  return fit[at], dataclasses.replace(atom, time=(first + at) / rate, gain=0)


def _settle(atoms, rest, rate, span, steps=4) -> tuple[Atom, ...]:
  """Refines simultaneous atoms by what sounds within `span` seconds.

  Returns:
    The atoms, and the energy of what they leave there.
  """
  start = min(a.time for a in atoms)
  first = max(0, round((start - 0.02) * rate))
  piece = rest[first : round((start + span) * rate)]
  moved = [
    dataclasses.replace(a, time=a.time - first / rate, gain=0) for a in atoms
  ]
  for _ in range(steps + 1):
    left = _refine(moved, piece, rate)
  for atom in moved:
    atom.time += first / rate
  return *moved, float(np.sum(left**2))


def _anew(rest: np.ndarray, twin: Atom, pitch: float, rate: int) -> list[Atom]:
  """What `twin` may have been: another ring, or two that started together.

  Args:
    rest: with the twin's ring in it.
    twin: the misheard.
    pitch: of what it left.
    rate: samples per second.
  """
  one = _fit(rest, rate, twin.time, twin.pitch)
  one.again = twin.again + 1
  one, left = _settle([one], rest, rate, 2 * SPAN)
  same, before = _settle([twin], rest, rate, 2 * SPAN)
  if before < left:
    one, left = dataclasses.replace(same, again=one.again), before
  if one.again < 2:
    return [one]
  # Beats bend an estimate of pitch: try wide and narrow intervals around it.
  middle = one.pitch
  intervals = [(middle * (1 - d), middle * (1 + d)) for d in (0.01, 0.03)]
  intervals += [(middle, middle * (1 + d)) for d in (-0.06, 0.06)]
  intervals += [(middle, pitch)]
  best, least = None, math.inf
  for low, high in intervals:
    for kinds in itertools.product(vocabulary.MATERIALS, repeat=2):
      pair = [
        Atom(one.time, f, m, again=2, paired=True)
        for f, m in zip((low, high), kinds)
      ]
      *pair, over = _settle(pair, rest, rate, 2 * SPAN, 2)
      if over < least:
        best, least = pair, over
  *best, least = _settle(best, rest, rate, 2 * SPAN, 6)
  for j in (0, 1, 0, 1):
    alone = _without(rest, best[1 - j], 1, rate)
    timed = [_onset(alone, rate, best[j], 0.005)[1], best[1 - j]]
    *timed, over = _settle(timed[:: 1 - 2 * j], rest, rate, 2 * SPAN)
    if over < least:
      best, least = timed, over
  apart = abs(math.log(best[0].pitch / best[1].pitch)) >= ALIKE
  faint = min(abs(a.gain) for a in best) < 0.1 * max(abs(a.gain) for a in best)
  return best if apart and not faint and least < 0.5 * left else [one]


def _refine(atoms: list[Atom], mono: np.ndarray, rate: int) -> np.ndarray:
  """One Gauss-Newton step of all atoms, in place; returns what is left."""
  samples, count = len(mono), len(atoms)
  matrix = np.zeros((4 * count, samples))
  for j, atom in enumerate(atoms):
    first, wave = atom.wave(rate, samples)
    there = slice(first, first + len(wave))
    matrix[2 * j, there], matrix[2 * j + 1, there] = wave.real, -wave.imag
    if atom.gain:
      dt, df = _STEP / rate, _STEP * atom.pitch
      for k, moved in enumerate(
        (atom.wave(rate, samples, dt=dt)[1], atom.wave(rate, samples, df=df)[1])
      ):
        slope = (moved - wave) / (dt, df)[k]
        matrix[2 * count + 2 * j + k, there] = (atom.gain * slope).real
  used = np.flatnonzero(np.einsum("ij,ij->i", matrix, matrix) > 0)
  matrix = matrix[used]
  solution = np.zeros(4 * count)
  solution[used] = _solve(matrix, mono[:, None])[:, 0]
  rest = mono - solution[used] @ matrix
  for j, atom in enumerate(atoms):
    atom.gain = complex(solution[2 * j], solution[2 * j + 1])
    dt, df = solution[2 * count + 2 * j : 2 * count + 2 * j + 2]
    atom.time = max(0.0, atom.time + float(np.clip(dt, -0.001, 0.001)))
    atom.pitch = max(LOWEST / 2, atom.pitch + float(np.clip(df, -3.0, 3.0)))
  return rest


def amplitudes(atoms, audio, rate) -> tuple[np.ndarray, np.ndarray]:
  """Amplitudes [N, channels] of the atoms, and the audio without them."""
  rows = []
  for atom in atoms:
    first, wave = atom.wave(rate, len(audio))
    padded = np.zeros(len(audio), complex)
    padded[first : first + len(wave)] = wave
    rows += [padded.real, -padded.imag]
  if not rows:
    return np.zeros((0, audio.shape[1])), audio
  matrix = np.stack(rows)
  solution = _solve(matrix, audio)
  left = audio - matrix.T @ solution
  return np.hypot(solution[::2], solution[1::2]), left


def _solve(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Least squares of rows [M, samples] against a target [samples, K]."""
  scale = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
  scale = np.maximum(scale, 1e-12)
  gram = (matrix @ matrix.T) / (scale * scale.T)
  gram[np.diag_indices_from(gram)] += 1e-6
  return np.linalg.solve(gram, (matrix @ target) / scale) / scale


@functools.cache
def _window(rate: int) -> np.ndarray:
  s = np.arange(round(SPAN * rate)) / rate
  window = np.exp(-s / FADE) * np.cos(s / SPAN * np.pi / 2) ** 2
  return window.astype(np.float32)


def _spectrogram(rest: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
  """Power [rows, frequencies], rows HOP apart, and Hz between frequencies."""
  window, hop = _window(rate), round(HOP * rate)
  size = 2 ** math.ceil(math.log2(2 * len(window)))
  padded = np.pad(rest, (0, len(window) // 2)).astype(np.float32)
  pieces = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
  spectrum = scipy.fft.rfft(pieces * window, size, axis=1)
  return spectrum.real**2 + spectrum.imag**2, rate / size


def _floor(power: np.ndarray, step: float) -> np.ndarray:
  """Mean power of the bed [frequencies], however much rings above it."""
  # The quarter of a power that is exponentially distributed is -log(3/4).
  quarter = np.quantile(power[::4], 0.25, axis=0) / -math.log(0.75)
  # Rings are narrow, the bed is wide.
  around = scipy.ndimage.median_filter(quarter, 2 * round(BROAD / step) + 1)
  return np.minimum(quarter, 4 * around) + 1e-12


def _lasting(material: str, rate: int) -> int:
  return round(6 * vocabulary.MATERIALS[material].decay * rate)
