"""Downstream tasks, one object a file; its name is the file's, in run files, commands and model folders."""
