"""The store that is a PostgreSQL."""
