"""Experiments: one question per file, with its command and its result."""
