"""The place where the parts are put together: what a front is made of, and what the writer is."""
