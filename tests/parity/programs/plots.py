"""Figures saved and shown by steps and by the body, with a style of the program."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pipedeco import component, pipeline

OUT = Path("figures")
plt.rcParams["figure.figsize"] = 2, 1.5


@component
def simulate(n):
    return np.cumsum(np.random.default_rng(n).normal(size=n))


@component
def draw(walk, name):
    figure, axes = plt.subplots()
    axes.plot(walk)
    axes.set_title(name)
    figure.savefig(OUT / f"{name}.png", dpi=40)
    plt.close(figure)
    return figure.get_size_inches().tolist()


@component
def show(walk):
    plt.hist(walk)
    print(f"showing {plt.gcf().number} of {len(plt.get_fignums())}")
    plt.show()
    plt.close("all")
    return len(plt.get_fignums())


@pipeline
def main():
    OUT.mkdir()
    walks = [simulate(n) for n in (10, 20)]
    sizes = [draw(walk, f"walk-{i}")[0] for i, walk in enumerate(walks)]
    return sizes, show(walks[1]) + 0, f"{plt.rcParams['figure.dpi']:.0f} dpi"


if __name__ == "__main__":
    print(*main(), sorted(path.name for path in OUT.iterdir()))
