"""`lhrs curate`: what of a data set is worth keeping: no duplicates, no leaks into a test set, the best of the rest."""
