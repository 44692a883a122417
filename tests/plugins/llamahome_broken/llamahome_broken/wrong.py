"""Loads, and is nothing that a group asks for."""

nothing = [1, 2]
