"""Normalising flows: invertible layers that compose, and the densities made of them. Book: chapter 3."""
