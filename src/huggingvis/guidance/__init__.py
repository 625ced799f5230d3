"""What the model should believe instead: functions from denoiser to denoiser (book, chapter 4)."""
