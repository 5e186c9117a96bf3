"""Readers of conversation data: one file each, one `lhrs.data.dataset.Dataset` in it."""
