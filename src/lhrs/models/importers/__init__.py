"""Foreign checkpoints, one file a format."""
