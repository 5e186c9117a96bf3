"""Scores that can be trusted: pure functions of answers and truths, numpy and shapely only.

Answers are parsed strictly. What cannot be parsed is wrong, is counted, and is reported; no rule looks for the truth
inside an answer. `lhrs.metrics.legacy` reproduces published scorers that do.
"""
