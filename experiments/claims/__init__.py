"""What the papers claim, and what is measured of it here."""
