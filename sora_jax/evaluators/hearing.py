"""Hears impacts in audio alone: when, how high, how loud, from where.

The listener knows how the materials of the world sound and neither the clip
nor its caption: `pursuit` takes the audio apart into their rings. What rings
and is no impact still becomes an onset, which `score` counts as debris.

Limits: of two sounds that begin within 15 ms of each other, one of nearly the
same pitch (10 %; 1 % where they begin together) or one 16 dB below the other is
not heard; nor is one 26 dB below another that still rings. A steady hum or hiss
is no onset; it shows in `bed_db`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy

from sora_jax.data.world import sound
from sora_jax.evaluators import pursuit

TOLERANCE = 0.15  # seconds by which a sound may come too early or too late
SYNC = 0.02  # seconds within which it is in time
PITCH = 0.03  # relative error of a right pitch
SAME = 0.015  # seconds within which two of one pitch sound as one
ALIKE = 0.02  # relative difference in pitch below which they are of one
FAINT = -36.0  # dB below which a listener may miss an impact
LATE = 0.04  # seconds before the end in which, too


@dataclasses.dataclass(frozen=True)
class Heard:
  """The impacts of a clip, by time.

  Attributes:
    time: float64 [N] onsets, seconds.
    pitch: float64 [N] of the first partial, Hz.
    loudness: float64 [N] peak level, dB of full scale.
    pan: float64 [N] from -1 (left) to 1 (right); 0 in mono.
    material: N keys of vocabulary.MATERIALS whose ring fits best.
    bed: root mean square of everything else, dB of full scale.
  """

  time: np.ndarray
  pitch: np.ndarray
  loudness: np.ndarray
  pan: np.ndarray
  material: tuple[str, ...]
  bed: float

  def __len__(self) -> int:
    return len(self.time)


def listen(audio: np.ndarray, rate: int) -> Heard:
  """Takes audio apart into impacts.

  Args:
    audio: float [samples] or [samples, 2] in -1..1; sounds that two channels
      hold in opposite phase are not heard.
    rate: samples per second, >= 8000.

  Raises:
    ValueError: for another shape, for values that are not finite, for a rate
      that is too low.
  """
  audio = _checked(audio, rate)
  mono = audio.sum(axis=1) / math.sqrt(audio.shape[1])
  atoms = sorted(pursuit.pursue(mono, rate), key=lambda a: a.time)
  gains, left = pursuit.amplitudes(atoms, audio, rate)
  level = np.linalg.norm(gains, axis=1)
  pan = np.zeros(len(atoms))
  if audio.shape[1] == 2:
    pan = np.arctan2(*gains.T[::-1]) * (4 / np.pi) - 1
  return Heard(
    time=np.array([a.time for a in atoms], float),
    pitch=np.array([a.pitch for a in atoms], float),
    loudness=_decibel(level),
    pan=pan,
    material=tuple(a.material for a in atoms),
    bed=float(_decibel(np.sqrt(np.mean(left**2)) if left.size else 0.0)),
  )


def score(
  heard: Heard,
  truth: Sequence[sound.Impact],
  seconds: float,
  width: float = math.nan,
) -> dict[str, float]:
  """Compares what was heard with what there was to hear.

  Truths that nobody can tell apart (the same pitch within `ALIKE` and `SAME`
  seconds) count as one; those below `FAINT` dB, and those in the last
  `LATE` seconds, may be heard but need not. Each onset is matched to at most
  one truth within `TOLERANCE`, so as to make the errors in time small and the
  pitches agree.

  Args:
    heard: of the audio to judge.
    truth: the impacts that its caption or its world tells.
    seconds: length of the clip; ValueError unless it is > 0.
    width: units that the frame shows, for the pan; nan in mono.

  Returns:
    recall: share of the truths that were matched.
    precision: share of the onsets that were matched; the others are debris.
    debris: unmatched onsets per second.
    sync_ms: mean |error in time| of the matched, milliseconds.
    pitch: share of the matched whose pitch is right to `PITCH`.
    loudness_db: mean |error in loudness| of the matched.
    loudness_rank: Spearman's correlation of their loudness with the truth's.
    material: share of the matched whose material is right.
    pan: mean |error of the matched's pan|, in -1..1.
    bed_db: level of all that is no impact, dB: hiss, hum and the bed.
    exact: F1 of onsets right in time to `SYNC` and in pitch; the one number
      that chance cannot reach.
    Each is nan where there is nothing to take it over.
  """
  return _compared(heard, _together(truth, seconds), seconds, width)


_NEVER = 1e3  # cost of a match that is none


def _compared(heard, truth, seconds, width) -> dict[str, float]:
  """The scores of `score`; the truths can be told apart."""
  rows, columns, lag, right = _match(heard, truth)
  level = np.array([truth[j].amplitude for j in columns])
  due = _due(truth, seconds)
  exact = (lag < SYNC) & right & due[columns]
  # What may be missed counts neither way.
  counted = len(heard) - np.sum(~due[columns]) + due.sum()
  where = np.clip([2 * truth[j].x / width for j in columns], -1, 1)
  same = [heard.material[i] == truth[j].material for i, j in zip(rows, columns)]
  return {
    "recall": _ratio(due[columns].sum(), due.sum()),
    "precision": _ratio(len(rows), len(heard)),
    "debris": (len(heard) - len(rows)) / seconds,
    "sync_ms": 1000 * _mean(lag),
    "pitch": _mean(right),
    "material": _mean(same),
    "loudness_db": _mean(np.abs(heard.loudness[rows] - _decibel(level))),
    "loudness_rank": _rank(heard.loudness[rows], level),
    "pan": _mean(np.abs(heard.pan[rows] - where)),
    "bed_db": heard.bed,
    "exact": _ratio(2 * exact.sum(), counted),
  }


def _due(truth: Sequence[sound.Impact], seconds: float) -> np.ndarray:
  """Which impacts a listener must hear, bool."""
  loud = [_decibel(t.amplitude) >= FAINT for t in truth]
  early = [t.time < seconds - LATE for t in truth]
  return np.array(loud, bool) & np.array(early, bool)


def _match(heard: Heard, truth: Sequence[sound.Impact]):
  """Pairs (heard, truth), their |error in time|, and whether pitches agree."""
  time, tone = (
    np.array([getattr(t, name) for t in truth], float)
    for name in ("time", "pitch")
  )
  lag = np.abs(heard.time[:, None] - time)  # [heard, truth]
  right = np.abs(heard.pitch[:, None] / tone - 1) < PITCH
  cost = np.where(lag < TOLERANCE, lag / TOLERANCE + ~right, _NEVER)
  rows, columns = scipy.optimize.linear_sum_assignment(cost)
  met = cost[rows, columns] < _NEVER
  pair = rows[met], columns[met]
  return *pair, lag[pair], right[pair]


def _together(truth, seconds) -> list[sound.Impact]:
  """The impacts within the clip, those that sound as one added up."""
  if not 0 < seconds < math.inf:
    raise ValueError(
      f"seconds={seconds}, it must be > 0: an image has no sound to score."
    )
  one = []
  for impact in sorted(truth, key=lambda t: -t.speed):
    twin = next(
      (
        k
        for k, t in enumerate(one)
        if abs(t.time - impact.time) < SAME
        and abs(math.log(impact.pitch / t.pitch)) < ALIKE
      ),
      None,
    )
    if impact.time >= seconds:
      continue
    if twin is None:
      one.append(impact)
    else:
      speed = one[twin].speed + impact.speed
      one[twin] = dataclasses.replace(one[twin], speed=speed)
  return one


def _mean(values) -> float:
  return float(np.mean(values)) if len(values) else math.nan


def _ratio(part, whole) -> float:
  return float(part / whole) if whole else math.nan


def _rank(heard: np.ndarray, truth: np.ndarray) -> float:
  if min(len(np.unique(heard)), len(np.unique(truth))) < 2:
    return math.nan
  return float(scipy.stats.spearmanr(heard, truth).statistic)


def _decibel(amplitude: np.ndarray) -> np.ndarray:
  return 20 * np.log10(np.maximum(amplitude, 1e-10))


def _checked(audio: np.ndarray, rate: int) -> np.ndarray:
  audio = np.asarray(audio)
  if audio.ndim not in (1, 2) or audio.shape[1:] not in ((), (2,)):
    raise ValueError(
      f"audio has shape {audio.shape}, it must be [samples] or [samples, 2]."
    )
  if audio.dtype.kind != "f" or not np.isfinite(audio).all():
    raise ValueError(
      f"audio ({audio.dtype}) must be finite floats in -1..1: divide integer "
      "samples by their range, and look for nan."
    )
  if rate < sound.MIN_RATE:
    raise ValueError(
      f"rate={rate} samples per second, it must be >= {sound.MIN_RATE}."
    )
  audio = audio.astype(np.float64)
  return audio[:, None] if audio.ndim == 1 else audio
