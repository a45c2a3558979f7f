"""What breaks, breaks only what it must: tests with real processes."""
