"""GGUF files written and read back, one tensor at a time."""
