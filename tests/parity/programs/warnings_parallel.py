# command: python -W once::FutureWarning warnings_parallel.py
"""Many steps warn at the same line, side by side; the bare program shows it once."""

import warnings

from pipedeco import component, pipeline


def legacy_mean(values):
    warnings.warn("legacy_mean goes away", FutureWarning, stacklevel=2)
    warnings.warn("mean of few values", UserWarning)
    return sum(values) / len(values)


@component
def mean(values):
    return legacy_mean(values)


@component
def spread(values):
    warnings.warn("mean of few values")
    return max(values) - min(values)


@pipeline
def main(rows):
    means = [mean(row) for row in rows]
    spreads = [spread(row) for row in rows]
    return sum(means), sum(spreads)


print(main([[i, i + 1, i + 5] for i in range(8)]))
