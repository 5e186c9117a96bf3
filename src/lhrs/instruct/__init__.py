"""Questions and answers about images, made of their annotations."""
