"""Asking something that may never answer: the question runs in a daemon thread, and whoever asks waits only so long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Patience(Generic[T]):
    """One question, asked again and again, never twice at a time.

    The thread is a daemon: a driver call that hangs in the kernel delays neither the caller nor the end of the
    program, and when it comes back after all the answer is taken as usual.
    """

    def __init__(self, question: Callable[[], T], name: str) -> None:
        self._question = question
        self._name = name
        self._wake = threading.Condition()
        self._asked_at: float | None = None
        self._answer: T | None = None
        self._answers = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def answered(self) -> int:
        """How many answers there have been so far."""
        return self._answers

    def waiting_s(self) -> float:
        """Seconds since the question was put that is still open, 0 when none is."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def ask(self, wait_s: float) -> T | None:
        """Put the question unless it is open already, and give the answer if it comes within `wait_s` seconds."""
        with self._wake:
            if self._closed:
                return None
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                    self._thread.start()
                else:
                    self._wake.notify_all()
            done = self._wake.wait_for(lambda: self._asked_at is None, timeout=wait_s)
            return self._answer if done else None

    def close(self) -> None:
        """Let the thread end; a question that hangs is left behind."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._asked_at is not None or self._closed)
                if self._asked_at is None:
                    return
            answer = None
            try:
                answer = self._question()
            finally:
                with self._wake:
                    self._answer = answer
                    self._answers += 1
                    self._asked_at = None
                    self._wake.notify_all()
