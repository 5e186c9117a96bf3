"""Conversation data: readers, checks and training datasets."""
