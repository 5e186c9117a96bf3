"""What a pretrained backbone is good for: scenes, land cover, objects and changes, in plain PyTorch."""
