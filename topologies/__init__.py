"""Applications that run on `streams`."""
