"""What a program has set up around its steps: captured for a run, re-made in workers."""
