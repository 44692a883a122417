"""The child that exports a run: merges, proves, and publishes a folder; all that needs torch."""
