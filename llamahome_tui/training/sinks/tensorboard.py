"""TensorBoard's event files, written by TensorBoard without torch: `tensorboard --logdir` on the folder of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamahome_tui.training.sinks.base import About


class TensorBoard:
    """Scalars under the names they have in the journal. A later attempt adds a file to the same folder."""

    def __init__(self, about: About) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._writer = EventFileWriter(str(about.folder))

    def log(self, step: int, values: Mapping[str, float], at: float) -> None:
        """One event with a scalar for each number, flushed: the next attempt must not send it again."""
        scalars = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        summary = self._summaries.Summary(value=scalars)
        self._writer.add_event(self._events.Event(wall_time=at, step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def open_sink(about: About) -> TensorBoard:
    """A sink that writes into its folder."""
    return TensorBoard(about)
