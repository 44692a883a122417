"""Does not load."""

raise RuntimeError("half done")
