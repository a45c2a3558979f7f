"""A small training loop with checkpoints, early stopping and metrics in files."""

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipedeco import component, pipeline

np.set_printoptions(precision=3, suppress=True)


@dataclass
class Config:
    rate: float = 0.1
    epochs: int = 20
    patience: int = 3
    folder: str = "checkpoints"


class Model:
    def __init__(self, features):
        self.w = np.zeros(features)

    def loss(self, x, y):
        return float(np.mean((x @ self.w - y) ** 2))

    def step(self, x, y, rate):
        self.w -= rate * 2 * x.T @ (x @ self.w - y) / len(y)


@component
def make_data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x, x @ np.array([1.0, -2.0, 0.5])


@component
def train(data, config):
    x, y = data
    model, best, waited = Model(x.shape[1]), float("inf"), 0
    for epoch in range(config.epochs):
        model.step(x, y, config.rate)
        loss = model.loss(x, y)
        print(
            f"epoch {epoch + 1:02d}/{config.epochs} loss {loss:.4f}",
            end="\r" if epoch % 5 else "\n",
        )
        waited = 0 if loss < best * 0.9 else waited + 1
        best = min(best, loss)
        if waited >= config.patience:
            break
    path = Path(config.folder) / f"rate-{config.rate}.pkl"
    path.write_bytes(pickle.dumps(model))
    print("\nweights", model.w)
    return path, best


@component
def evaluate(path, data):
    model = pickle.loads(path.read_bytes())
    return type(model) is Model, model.loss(*data)


@pipeline
def search(rates):
    data, test = make_data(50, 0), make_data(20, 1)
    Path("checkpoints").mkdir()
    results = {}
    for rate in rates:
        config = Config(rate=rate)
        path, best = train(data, config)
        known, loss = evaluate(path, test)
        results[str(rate)] = asdict(config) | {"best": round(best + 0, 4), "known": known is True}
        results[str(rate)]["test"] = round(loss + 0, 4)
    Path("metrics.json").write_text(json.dumps(results, indent=2))
    return min(results, key=lambda rate: results[rate]["test"])


if __name__ == "__main__":
    print("best rate", search([0.02, 0.2]))
