"""Data sets: formats, chat templates and token masks; never imports transformers."""
