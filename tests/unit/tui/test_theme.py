"""Themes: three that ship, readable ones; a bad file is named with its line and never stops anything (F38)."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.color import Color

from llamahome_tui.errors import ConfigError
from llamahome_tui.tui import theme as themes
from tests.unit.tui.conftest import MakeApp

SHIPPED = themes.load(themes.folders())
TEXTS = ("foreground", "primary", "secondary", "success", "warning", "error")


def contrast(one: str, other: str) -> float:
    """WCAG 2.1: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [c / 255 for c in Color.parse(colour).rgb]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_three_themes_ship() -> None:
    assert {theme.name for theme in SHIPPED.themes} == {"llamahome-dark", "llamahome-light", "llamahome-contrast"}
    assert SHIPPED.problems == ()


@pytest.mark.parametrize("theme", SHIPPED.themes, ids=lambda theme: theme.name)
def test_every_text_can_be_read(theme: themes.Theme) -> None:
    least = 7.0 if theme.name.endswith("contrast") else 4.5
    colours = [str(getattr(theme, name)) for name in TEXTS] + [theme.variables["lh-dim"]]
    for back in (theme.background, theme.surface, theme.variables["lh-bar"], theme.variables["lh-select"]):
        for colour in colours:
            floor = least if back == theme.background else 3.0
            assert contrast(colour, str(back)) >= floor, (colour, back)
    assert contrast(theme.variables["lh-here-text"], theme.variables["lh-here"]) >= 4.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[colors", "line 1"),
        ("dark = true\n", "no [colors]"),
        ('[colors]\nprimary = "#zz"\n', "line 2: primary"),
        ('[colors]\n\nprimery = "#fff"\n', "line 3: unknown colour primery"),
        ('[colors]\nprimary = "#fff"\n', "lacks secondary"),
        ("[colors]\nprimary = 5\n", "line 2"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        themes.read(path)
    assert str(path) in raised.value.message
    assert said in raised.value.message
    assert raised.value.exit == 3


async def test_f38_a_bad_theme_file_and_setting_become_toasts(make_app: MakeApp) -> None:
    app = make_app()
    folder = app.context.places.config / "themes"
    folder.mkdir(parents=True)
    (folder / "broken.toml").write_text("[colors\n")
    (folder / "mine.toml").write_text((themes.folders()[0] / "light.toml").read_text())
    (app.context.places.config / "config.toml").write_text('[ui]\ntheme = "llamahome-nowhere"\nthemee = 1\n')
    app = make_app()
    async with app.run_test(notifications=True) as pilot:
        await pilot.pause(0.3)
        said = " ".join(one.message for one in app._notifications)
        assert "broken.toml" in said
        assert "no theme nowhere; known are dark" in said
        assert "themee" in said
        assert app.theme == "llamahome-dark"
        app.use_theme("llamahome-mine")
        assert app.theme == "llamahome-mine"


async def test_the_theme_is_switched_live(make_app: MakeApp) -> None:
    app = make_app(theme="light")
    async with app.run_test() as pilot:
        assert app.theme == "llamahome-light"
        seen = set()
        for _ in range(3):
            await pilot.press("T")
            seen.add(app.theme)
        assert len(seen) == 3
