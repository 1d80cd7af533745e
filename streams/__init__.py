"""Towpath's runtime: stages, topologies, and the machine that runs them exactly once."""
