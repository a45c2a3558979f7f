"""What performs steps: one attempt, a worker's loop, the nursery, and the pool of workers."""
