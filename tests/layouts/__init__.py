"""The same pipeline gives the same value wherever its code lives."""
