"""Outcomes to lines or JSON, exit codes; the face for scripts."""
