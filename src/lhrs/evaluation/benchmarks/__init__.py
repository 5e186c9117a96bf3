"""Benchmarks, one file each; the file's name is the benchmark's."""
