"""Metrics: one object per metric, one file each, and the pure functions that they score with.

Answers are parsed strictly. An answer that cannot be parsed is wrong, is counted, and is reported. No parser reads the
ground truth. `lhrs.metrics.legacy` reproduces published scorers that do.
"""
