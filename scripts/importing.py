"""Write the tables of docs/importing.md from those that translations are made of: python scripts/importing.py"""

from __future__ import annotations

from pathlib import Path

from llamahome_tui.training.imports import axolotl, llama_factory, trl
from llamahome_tui.training.imports.rules import rows

PAGE = Path(__file__).parent.parent / "docs" / "importing.md"
MARK = "<!-- made by scripts/importing.py from here on -->"


def page(written: str) -> str:
    """The page with its hand-written part and the tables as the code has them."""
    parts = [written.partition(MARK)[0] + MARK]
    for tool in (axolotl, llama_factory, trl):
        parts.append(f"\n## Keys of {tool.NAME}\n\n| key | what becomes of it | |\n| --- | --- | --- |")
        for key, where, said in rows(tool.KEYS):
            parts.append(f"| `{key}` | {where} | {said.replace('|', chr(92) + '|')} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)
