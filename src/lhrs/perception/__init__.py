"""What an image shows: the evidence of the dense heads, and the words that name it. No torch."""
