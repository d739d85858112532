"""Logs, metrics and health. Imported by every part, imports none of them."""
