"""Questions about what was recorded, answered from the store."""
