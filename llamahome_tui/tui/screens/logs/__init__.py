"""The screen that follows log files."""
