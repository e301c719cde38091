"""Accounts: who is there, and what may they do."""
