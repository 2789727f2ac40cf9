"""The real command against real trackers; only `make test-real` runs it."""
