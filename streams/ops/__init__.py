"""Operators' verbs: cases, redrive, replay, reconcile. Off the hot path."""
