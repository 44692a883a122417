"""The Training screen: the list of runs and a run's page."""
