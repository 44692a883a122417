"""Value: a narrow one-line text that changes often; it repaints nothing while its text stays the same."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from llamahome_tui.text import clean


class Value(Static):
    """A text of a fixed place; give it a width in tcss (or `auto` and `resize=True`), as narrow as its repaint."""

    DEFAULT_CSS = """
    Value { width: 1fr; height: 1; }
    """

    def __init__(
        self, text: str = "", *, tone: str = "", id: str | None = None, classes: str | None = None, resize: bool = False
    ) -> None:
        super().__init__(Content(clean(text)), id=id, classes=classes, markup=False)
        self._text = text
        self._tone = ""
        self._resize = resize
        self._set_tone(tone)

    @property
    def text(self) -> str:
        """What is shown."""
        return self._text

    def show(self, text: str, tone: str = "") -> None:
        """Show this text in this tone; equal values cost nothing."""
        if tone != self._tone:
            self._set_tone(tone)
        if text != self._text:
            self._text = text
            self.update(Content(clean(text)), layout=self._resize)

    def _set_tone(self, tone: str) -> None:
        if self._tone:
            self.remove_class(f"-{self._tone}")
        if tone:
            self.add_class(f"-{tone}")
        self._tone = tone
