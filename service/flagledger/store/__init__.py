"""Where evaluations come to rest, and what can be asked of them; `base` is the seam."""
