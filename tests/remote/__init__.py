"""Remote mode on engines of their own processes."""
