"""Normalising flows, one named method per file. Book: chapter 3."""
