"""What each kind of adapter is on a system: a file for each, called as `checkpoints.kinds` calls the kind."""
