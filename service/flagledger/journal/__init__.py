"""The journal: what lies between the answer and the store."""
