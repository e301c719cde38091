"""PostgreSQL and Valkey for the zero set-up mode, supervised by us."""
