"""From the command line to the running application: read the configuration, then import what paints."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.tui import splash

if TYPE_CHECKING:
    from llamahome_tui.cli import Opening


def start(opening: Opening) -> int:
    """Open the terminal application; gives an exit status only when it could not be opened.

    Once the application has run the process ends here: no thread may hold the shell back.
    """
    import gc

    from llamahome_tui.start import surroundings

    gc.disable()  # nothing made while importing is garbage; the application turns it on after its first frame

    try:
        context, problems = surroundings(os.environ, "tui", env_file=opening.env_file)
        context.places.ensure()
    except LlamaHomeError as error:
        splash.clear()
        sys.stderr.write(f"llamahome: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return error.exit
    from llamahome_tui.tui.app import leave, run

    code = run(opening.screen, opening.run, opening.theme, context, [problem.as_dict() for problem in problems])
    leave(code)
    return code
