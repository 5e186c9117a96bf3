"""Inference on whole scenes: every window is queried, and the answers are merged in map coordinates."""
