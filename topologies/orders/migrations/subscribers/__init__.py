"""The revisions of the subscribers' table."""
