"""Generation of questions and answers about images from their annotations."""
