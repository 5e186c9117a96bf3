"""`lhrs curate`: drop duplicates and test-set leaks from a dataset, and keep the samples with the best scores."""
