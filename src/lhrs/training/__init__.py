"""Training of vision encoders and of multimodal models."""
