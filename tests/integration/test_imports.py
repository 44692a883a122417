"""What a fresh process has loaded after doing something: the promise that start-up stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, clean_environ

TORCH = {"torch", "transformers", "peft", "accelerate", "bitsandbytes"}
FACES = {"textual", "rich"}

# Runs the command line in a process and reports what it has imported, whichever way it ends.
PROBE = """
import json, os, sys
from llamahome_tui.cli import main
status = main(sys.argv[1:])
os.write(9, json.dumps([status, sorted({m.partition(".")[0] for m in sys.modules})]).encode())
"""


def modules_after(home, *words: str, code: str = PROBE) -> tuple[int, set[str]]:
    import os

    reader, writer = os.pipe()
    subprocess.run(
        ["bash", "-c", f'exec 9>&{writer}; exec "$0" "$@"', sys.executable, "-c", code, *words],
        env=clean_environ(home), stdin=subprocess.DEVNULL, capture_output=True, pass_fds=[writer], timeout=120,
        check=True,
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as file:
        status, modules = json.loads(file.read())
    return status, set(modules)


@pytest.mark.parametrize(
    ("words", "also"),
    [
        ("runs list", {"loguru", "tomlkit", "nvitop", "psutil", "huggingface_hub", "numpy", "tokenizers", "jinja2"}),
        ("config show", {"loguru", "nvitop", "psutil", "huggingface_hub", "numpy"}),
        ("logs list", {"loguru", "nvitop", "huggingface_hub", "numpy"}),
        ("models list", {"loguru", "huggingface_hub", "numpy"}),
        ("cache usage", {"loguru", "huggingface_hub", "numpy"}),
        ("system show", {"loguru", "huggingface_hub", "numpy"}),
        ("data formats", {"loguru", "huggingface_hub", "numpy", "tokenizers", "jinja2", "pyarrow", "zstandard"}),
        ("data validate demo", {"loguru", "huggingface_hub", "numpy", "tokenizers", "jinja2", "pyarrow", "zstandard"}),
        ("data inspect demo", {"loguru", "huggingface_hub", "numpy", "tokenizers", "jinja2", "pyarrow", "zstandard"}),
        ("schema spec", {"loguru", "huggingface_hub", "numpy"}),
    ],
)
def test_batch_is_light(home, words, also):
    status, modules = modules_after(home, "--batch", *words.split())
    assert status == 0
    assert not modules & (TORCH | FACES | {"pydantic", "typer", "yaml"} | also)


def test_the_command_line_needs_the_standard_library_only(home):
    code = """
import json, os, sys, llamahome_tui.cli
loaded = {m.partition(".")[0] for m in sys.modules} - set(sys.stdlib_module_names)
os.write(9, json.dumps([0, sorted(loaded)]).encode())
"""
    _, modules = modules_after(home, code=code)
    assert {m for m in modules if not m.startswith(("_", "sitecustomize", "usercustomize"))} == {"llamahome_tui"}


def test_the_application_never_loads_torch(home):
    """The real application, opened on every screen without a terminal of its own (Textual's headless driver)."""
    code = """
import asyncio, json, os, sys
from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
context, problems = surroundings(os.environ, "tui")
context.places.ensure()
app = LlamaHomeApp(context=context)
async def main():
    async with app.run_test(size=(120, 40)) as pilot:
        for key in ("1", "2", "3", "4", "question_mark", "escape", "colon"):
            await pilot.press(key)
            await pilot.pause(0.3)
asyncio.run(main())
os.write(9, json.dumps([0, sorted({m.partition(".")[0] for m in sys.modules})]).encode())
os._exit(0)
"""
    _, modules = modules_after(home, code=code)
    assert "textual" in modules
    assert not modules & TORCH


def test_only_the_children_and_the_demo_builder_import_torch():
    found = set()
    for path in (REPOSITORY / "llamahome_tui").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            if {name.partition(".")[0] for name in names} & TORCH:
                found.add(path.relative_to(REPOSITORY / "llamahome_tui").as_posix())
    allowed = {"demo/build.py", "workers/generate.py", "workers/evaluate.py"}
    children = ("training/trainer/", "workers/export/", "workers/forecast/", "workers/gguf/")
    assert {name for name in found if not name.startswith(children)} <= allowed
