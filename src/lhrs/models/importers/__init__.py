"""Importers of third-party checkpoints, one per file."""
