"""The stock's revisions."""
