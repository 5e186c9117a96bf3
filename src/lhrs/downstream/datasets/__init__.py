"""Readers of images with a class per pixel, one file a data set; a file's name is its reader's name."""
