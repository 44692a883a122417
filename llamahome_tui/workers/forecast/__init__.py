"""What a step takes of memory, by running it without values."""
