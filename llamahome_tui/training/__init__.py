"""What to train: the spec and the operations that start from it; the loop itself lives in trainer/."""
