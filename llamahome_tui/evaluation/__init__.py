"""Asking a model the rows of a file: how well it expects their answers, and whether what it writes is right."""
