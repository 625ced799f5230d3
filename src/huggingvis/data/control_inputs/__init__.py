"""What nets of control read of a picture, each kind a file with one dataclass, found by its name."""
