"""Models of one person, from their few answers and what others answered."""
