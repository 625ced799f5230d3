"""How data becomes noise: one file per family of processes (book, chapter 4)."""
