"""Conversation data: readers, checks, and what training reads."""
