"""The revisions of our books of payments."""
