"""Models on this machine: where they are, what they are, whether they are whole."""
