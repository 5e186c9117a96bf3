"""lhrs-nano: its data, training, packaging and scores. To be replaced by the public commands."""
