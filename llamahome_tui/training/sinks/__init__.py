"""Where metrics go beside the journal: each sink is a process of its own, so that none can slow or stop a run."""
