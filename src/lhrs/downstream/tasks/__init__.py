"""Downstream tasks, one class per file; the file's name is the name of the task in run files and commands."""
