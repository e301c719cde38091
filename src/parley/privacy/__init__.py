"""What is kept of people: for how long, handed out, taken away."""
