"""One file a family of models; see `lhrs.inference.model_family`."""
