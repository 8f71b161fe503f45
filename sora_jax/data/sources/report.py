"""What a source leaves out, said once."""

from __future__ import annotations

import json
import pathlib
import threading

from absl import logging

_LOCK = threading.Lock()  # Of the module: objects with locks do not pickle.


class Report:
  """Notes what is left out: once each, in the log and in a file."""

  def __init__(self, path: pathlib.Path | None):
    self.reasons: dict[str, str] = {}
    self._path = path

  def __call__(self, file: str, reason: str) -> None:
    with _LOCK:
      if file in self.reasons:
        return
      self.reasons[file] = reason
      logging.warning("skipped %s: %s", file, reason)
      if self._path is None:
        return
      line = json.dumps({"file": file, "reason": reason}) + "\n"
      self._path.parent.mkdir(parents=True, exist_ok=True)
      with self._path.open("a+", encoding="utf-8") as lines:
        lines.seek(0)
        # Earlier runs and other processes may have noted it already.
        if line not in lines:
          lines.write(line)
