"""Intake: who may write, what is admitted of a batch, and its way into the journal."""
