"""Whole scenes: questions put to every window, answers put together on the map."""
