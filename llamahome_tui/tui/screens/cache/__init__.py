"""The screen of what takes disk."""
