"""The session in memory: a broker with real transactions and groups, on a clock of the tests."""
