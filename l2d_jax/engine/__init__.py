"""Training many runs as one program, and going on after a stop."""
