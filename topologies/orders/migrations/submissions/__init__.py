"""The revisions of the orders seen."""
