"""Chat templates tried in a child with little time and memory: Jinja's sandbox stops code, but no endless loop.

`python -m llamahome_tui.data.probe` is that child: a template and chats as JSON on stdin, an exit status as its answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llamahome_tui.config.secrets import strip_secrets
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate
from llamahome_tui.errors import DataError

CPU_S = 10  # of the child; honest templates render a thousand chats in one
MEMORY_BYTES = 1 << 30
_WALL_S = 120.0  # a box that is busy elsewhere gives the child its CPU late
_NO_MEMORY = 3


def probe(
    template: ChatTemplate, chats: Sequence[Chat], *, train_on: str, options: Mapping[str, Any], special: Sequence[str]
) -> None:
    """Render chats as preparing would, within limits. Raises DataError `template.unbounded`; any other fault of the
    template is left to the rendering itself."""
    given = {
        "text": template.text,
        "tool_text": template.tool_text,
        "special_tokens": dict(template.special),
        "chats": [dataclasses.asdict(chat) for chat in chats],
        "train_on": train_on,
        "options": dict(options),
        "special": list(special),
    }
    package = Path(__file__).resolve().parents[2]
    environ = strip_secrets(os.environ)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package), environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "llamahome_tui.data.probe"],
            input=json.dumps(given).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd="/",
            timeout=_WALL_S,
            check=False,
        )
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = -1
    if status == _NO_MEMORY:
        raise _unbounded(template, f"wants more than {MEMORY_BYTES >> 20} MiB of memory")
    if status < 0:
        raise _unbounded(template, f"is not done within {CPU_S} s")


def _unbounded(template: ChatTemplate, how: str) -> DataError:
    return DataError(
        f"the chat template {how}, so it is broken or hostile: {template.source or 'data.template'}",
        code="template.unbounded",
        hint="name another: llamahome --batch train start SPEC --set data.template=FILE",
        data={"template": template.source},
    )


def _child() -> int:
    import resource

    from llamahome_tui.data.masks import MaskError, learned
    from llamahome_tui.data.template import RenderError

    given = json.loads(sys.stdin.buffer.read())
    template = ChatTemplate(given["text"], given["special_tokens"], given["tool_text"])
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    try:
        for values in given["chats"]:
            chat = Chat(**values | {"messages": tuple(values["messages"]), "tools": tuple(values["tools"])})
            with contextlib.suppress(RenderError, MaskError):
                learned(
                    template,
                    chat,
                    train_on=given["train_on"],
                    options=given["options"],
                    special=tuple(given["special"]),
                )
    except MemoryError:
        return _NO_MEMORY
    return 0


if __name__ == "__main__":
    sys.exit(_child())
