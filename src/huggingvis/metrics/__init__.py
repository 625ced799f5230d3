"""Measures of quality, one per file. They take tensors, or callables that make features; none knows any weights."""
