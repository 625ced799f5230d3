"""What can be done with a model's latents: an exploration a file, found by its file's name. Book: chapters 1 to 3."""
