"""The life of any long work: store, journal, lock, supervisor, status, control, queue, recovery."""
