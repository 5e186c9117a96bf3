"""Turn what is known about an image into questions and answers."""
