"""The parts of a cache key: what a step's code is and reaches, and what its values are."""
