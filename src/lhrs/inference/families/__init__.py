"""Model families, one per file; see `lhrs.inference.model_family`."""
