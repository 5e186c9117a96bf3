"""Object detection with horizontal and with oriented boxes, in plain PyTorch."""
