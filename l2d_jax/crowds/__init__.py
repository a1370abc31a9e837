"""Whom to ask in a closed loop, and what the answers of many are worth."""
