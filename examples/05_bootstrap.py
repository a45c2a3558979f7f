"""Ask how sure three famous measurements were: a pipeline that calls another for each of them.

    python examples/05_bootstrap.py
    pipedeco run examples/05_bootstrap.py --draws 100000
    pipedeco runs

The inner pipeline estimates the 95 % interval of one mean by the bootstrap: its steps draw many
samples of the sample.  Called in the outer pipeline's body it is one step there and a run of its
own, recorded with its own steps; the three run side by side.  It still works alone:
`interval(CAVENDISH)`.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import fmean, quantiles

from pipedeco import component, get_run, pipeline

# Density of the Earth, in g/cm³, 1798.  True: 5.513.
CAVENDISH = (
    5.50, 5.61, 4.88, 5.07, 5.26, 5.55, 5.36, 5.29, 5.58, 5.65, 5.57, 5.53, 5.62, 5.29, 5.44,
    5.34, 5.79, 5.10, 5.27, 5.39, 5.42, 5.47, 5.63, 5.34, 5.46, 5.30, 5.75, 5.68, 5.85,
)  # fmt: skip
# Light's way of 7,442 m, in ns above 24,800, 1882.  True: 33.
NEWCOMB = (
    28, 26, 33, 24, 34, -44, 27, 16, 40, -2, 29, 22, 24, 21, 25, 30, 23, 29, 31, 19, 24, 20, 36,
    32, 36, 28, 25, 21, 28, 29, 37, 25, 28, 26, 30, 32, 36, 26, 30, 22, 36, 23, 27, 27, 28, 27, 31,
    27, 26, 33, 26, 32, 32, 24, 39, 28, 24, 25, 32, 25, 29, 27, 28, 29, 16, 23,
)  # fmt: skip
# By how much cross-fertilised maize outgrows self-fertilised, in 1/8 inch, 1876.  True: unknown.
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)

SAMPLES = {"Cavendish": CAVENDISH, "Newcomb": NEWCOMB, "Darwin": DARWIN}
TRUE = {"Cavendish": 5.513, "Newcomb": 33.0}

Interval = tuple[float, float]


@component
def resample(sample: Sequence[float], draws: int, seed: int) -> list[float]:
    """Draw samples of the sample, and return their means."""
    generator = random.Random(seed)  # noqa: S311 - chance that can be repeated is the point
    return [fmean(generator.choices(sample, k=len(sample))) for _ in range(draws)]


@component
def middle(means: Iterable[Sequence[float]]) -> Interval:
    """Return the bounds of the middle 95 %."""
    cuts = quantiles(chain.from_iterable(means), n=40)
    return cuts[0], cuts[-1]


@pipeline
def interval(sample: Sequence[float], draws: int = 20_000, batches: int = 4) -> Interval:
    """Return the 95 % interval of a sample's mean.

    Args:
        sample: the measurements.
        draws: how many samples to draw of them.
        batches: how many steps draw.
    """
    return middle([resample(sample, draws // batches, seed) for seed in range(batches)])


@pipeline
def bootstrap(draws: int = 20_000) -> dict[str, Interval]:
    """Return the interval of each sample's mean.

    Args:
        draws: how many samples to draw of each.
    """
    return {name: interval(sample, draws) for name, sample in SAMPLES.items()}


run = bootstrap.start()
print(f"{'sample':<12}{'mean':>7}  {'95 % interval':<17}{'true':>6}")
for name, (low, high) in run.result().items():
    true = TRUE.get(name)
    verdict = "unknown" if true is None else f"{true:6.2f}{'' if low < true < high else '  missed'}"
    print(f"{name:<12}{fmean(SAMPLES[name]):7.2f}  {low:6.2f} to {high:6.2f} {verdict:>7}")

print(f"\n{run.name} has {len(run.steps)} steps:")
for step in run.steps.values():
    child = get_run(step.child_run)
    print(f"  {step.name:<12}is {child.name}, {child.status}, {len(child.steps)} steps")
