"""The screen of the models on this machine."""
