"""Configs: pure data."""
