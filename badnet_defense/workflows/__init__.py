"""Whole runs from files to files: what the scripts call."""
