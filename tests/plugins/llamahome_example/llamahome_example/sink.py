"""The sink `lines`: one line of JSON for each record."""

import json
from collections.abc import Mapping

from llamahome_tui.training.sinks.base import About


class Lines:
    def __init__(self, about: About) -> None:
        self._stream = (about.folder / "lines.jsonl").open("a")

    def log(self, step: int, values: Mapping[str, float], at: float) -> None:
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def open_sink(about: About) -> Lines:
    return Lines(about)
