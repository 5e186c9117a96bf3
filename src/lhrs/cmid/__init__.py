"""CMID: self-supervised pretraining of global and local features (TGRS 2023, arXiv:2304.09670)."""
