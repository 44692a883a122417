"""Configurations of other training tools made into a spec: every key is carried over or named, none is dropped."""
