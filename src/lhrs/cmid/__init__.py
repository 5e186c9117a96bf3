"""CMID: pretraining without labels that learns what is in an image, and where (TGRS 2023, arXiv:2304.09670)."""
