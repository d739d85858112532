"""Which keys and features exist, and who may read."""
