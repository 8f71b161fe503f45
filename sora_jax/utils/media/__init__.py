"""Media files in and out; the only package that knows the codecs."""

from sora_jax.utils.media.audio import RATES, read_audio
from sora_jax.utils.media.files import (
  EXTENSIONS,
  IMAGE_EXTENSIONS,
  VIDEO_EXTENSIONS,
  Path,
  Undecodable,
  tidy,
)
from sora_jax.utils.media.sheets import Rows, contact_sheet, sheet
from sora_jax.utils.media.video import (
  WRITABLE,
  Info,
  growing,
  probe,
  read,
  read_metadata,
  write,
  writing,
)

__all__ = [
  "EXTENSIONS",
  "IMAGE_EXTENSIONS",
  "RATES",
  "VIDEO_EXTENSIONS",
  "WRITABLE",
  "Info",
  "Path",
  "Rows",
  "Undecodable",
  "contact_sheet",
  "growing",
  "probe",
  "read",
  "read_audio",
  "read_metadata",
  "sheet",
  "tidy",
  "write",
  "writing",
]
