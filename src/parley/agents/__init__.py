"""The brain behind every reply."""
