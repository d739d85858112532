"""Counts into an InfluxDB."""
