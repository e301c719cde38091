"""Conversations, and the answers that stream into them."""
