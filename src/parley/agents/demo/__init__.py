"""The keyless demo model: a small program that speaks the protocol of a real provider."""
