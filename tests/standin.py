"""Programs that stand in for others in tests, as the text of a script."""

from __future__ import annotations

import sys
from typing import Final

# llama-quantize: keeps every number and says that the file is Q4_K_M.
QUANTIZE: Final = f"""#!{sys.executable}
import shutil, sys
import gguf
source, target, kind = sys.argv[1:]
assert kind == "Q4_K_M"
shutil.copyfile(source, target)
reader = gguf.GGUFReader(target, "r+")
reader.fields["general.file_type"].parts[-1][0] = gguf.LlamaFileType.MOSTLY_Q4_K_M
reader.data.flush()
print("quantised", flush=True)
"""
