"""How belief is integrated into a sample: one file per method, and the grids of times they walk (book, chapter 4)."""
