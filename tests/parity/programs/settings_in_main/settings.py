"""Defaults, which the program overrides."""

import time

SCALE = 1
NAME = "default"
OPTIONS = {"depth": 1}
LOADED = time.time_ns()
HOOKS = []


def describe():
    return f"{NAME} x{SCALE} depth {OPTIONS['depth']} hooks {len(HOOKS)}"
