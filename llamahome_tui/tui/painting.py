"""The stream the application paints on: a character that it cannot encode becomes question marks and moves nothing.

Textual writes in a thread of its own, which an error would end: the screen would stand still and take no key.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Mapping

from rich.cells import cell_len

from llamahome_tui.tui.splash import c_locale

_CELLS = "llamahome-cells"


def settle(environ: Mapping[str, str]) -> None:
    """Take the stream that is a terminal (`2>file` must not blind it) and let it encode whatever rows and names hold.

    Where the locale is C by name it gets ASCII alone: bytes of UTF-8 may be control characters there.
    """
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        sys.__stderr__ = sys.__stdout__  # type: ignore[misc]  # where Textual paints
    stream = sys.__stderr__
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(_CELLS, _marks)
        stream.reconfigure(encoding="ascii" if c_locale(environ) else stream.encoding, errors=_CELLS)


def _marks(error: UnicodeError) -> tuple[str, int]:
    """As many question marks as the characters have cells."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "?" * cell_len(error.object[error.start : error.end]), error.end
