"""Adversarial models, one named method per file. Book: chapter 2."""
