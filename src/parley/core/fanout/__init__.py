"""What reaches the other workers."""
