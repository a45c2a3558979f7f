"""Watch gradient descent find Hubble's law, at four step sizes side by side.

    python examples/07_watching_it_learn.py
    pipedeco run examples/07_watching_it_learn.py --epochs 1000
    pipedeco metrics latest
    pipedeco artifacts latest

Each step reports its loss while it runs, how far it is, and its curve as a drawing.  The
monitors make the losses the run's own, too.  One step size is too large, and its loss grows
beyond all bounds.  A callback says how each ended.
"""

import math

from pipedeco import (
    component,
    get_run,
    log_figure,
    log_metric,
    log_param,
    log_table,
    pipeline,
    set_progress,
)
from pipedeco.callbacks import StepView

# Distances of 24 nebulae in megaparsecs, and their velocities in km/s, 1929.
DISTANCES = (
    0.032, 0.034, 0.214, 0.263, 0.275, 0.275, 0.45, 0.5, 0.5, 0.63, 0.8, 0.9, 0.9, 0.9, 0.9, 1.0,
    1.1, 1.1, 1.4, 1.7, 2.0, 2.0, 2.0, 2.0,
)  # fmt: skip
VELOCITIES = (
    170, 290, -130, -70, -185, -220, 200, 290, 270, 200, 300, -30, 650, 150, 500, 920, 450, 500,
    500, 960, 500, 850, 800, 1090,
)  # fmt: skip
RATES = (0.3, 0.1, 0.01, 0.6)


def loss_and_slopes(start: float, slope: float) -> tuple[float, float, float]:
    """Return the mean squared error of a line, and how it changes with its two numbers."""
    count = len(DISTANCES)
    off = [start + slope * x - y for x, y in zip(DISTANCES, VELOCITIES, strict=True)]
    by_slope = sum(error * x for error, x in zip(off, DISTANCES, strict=True))
    return sum(e * e for e in off) / count, 2 * sum(off) / count, 2 * by_slope / count


def curve(losses: list[float]) -> str:
    """Draw losses over epochs, on a logarithmic scale, as SVG."""
    shown = [math.log(loss) for loss in losses if loss < 1e12]
    low, high = min(shown), max(shown) + 1e-9
    points = " ".join(
        f"{300 * i / len(shown):.1f},{95 - 90 * (y - low) / (high - low):.1f}"
        for i, y in enumerate(shown)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 100">'
        f'<polyline points="{points}" fill="none" stroke="#1b8a66"/></svg>'
    )


def say(step: StepView) -> None:
    """Say how a step ended; called in the process that drives the run."""
    print(f"{step.name} {step.state}")


@component(monitor_metrics=["loss/*"], stage="train", after_step=say)
def descend(rate: float, epochs: int) -> tuple[float, float]:
    """Walk down from (0, 0); return the line's slope and its loss."""
    start, slope, losses = 0.0, 0.0, []
    for epoch in range(epochs):
        loss, by_start, by_slope = loss_and_slopes(start, slope)
        log_metric(f"loss/{rate}", loss, epoch)
        set_progress((epoch + 1) / epochs)
        losses.append(loss)
        start, slope = start - rate * by_start, slope - rate * by_slope
    log_figure("loss", curve(losses))
    return slope, losses[-1]


@pipeline(tags=["hubble"])
def learn(epochs: int = 300) -> float:
    """Return the slope of the best line: km/s per megaparsec.

    Args:
        epochs: how many steps downhill each makes.
    """
    found = [descend(rate, epochs) for rate in RATES]
    rows = [
        {"rate": rate, "slope": slope, "loss": loss}
        for rate, (slope, loss) in zip(RATES, found, strict=True)
    ]
    log_table("step sizes", rows)
    best = min(rows, key=lambda row: (not math.isfinite(row["loss"]), row["loss"]))
    log_param("best rate", best["rate"])
    return best["slope"]


print(f"{learn():.0f} km/s per megaparsec, as Hubble found; today it is about 70\n")
run = get_run()
print(f"{'metric':<12}{'last value':>12}")
for name, last in run.last_metrics.items():
    print(f"{name:<12}{last:12.5g}")
print(
    f"\n{run.name} used rate {run.params['best rate']}; {list(run.tables)} and {len(run.steps)} figures"
)
