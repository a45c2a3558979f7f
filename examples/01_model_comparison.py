"""Compare several classifiers on the handwritten digits that scikit-learn ships.

    python examples/01_model_comparison.py
    pipedeco run examples/01_model_comparison.py --test-size 0.5
    pipedeco show latest

Nothing below waits until a score is read, so the models train side by side.
"""

import time
from typing import NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pipedeco import component, pipeline

MODELS = {
    "gradient boosting": GradientBoostingClassifier(n_estimators=60, random_state=0),
    "random forest": RandomForestClassifier(800, random_state=0),
    "neural network": MLPClassifier((256,), random_state=0),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "support vectors": SVC(),
    "nearest neighbours": KNeighborsClassifier(),
}


class Samples(NamedTuple):
    """Images of 8 x 8 pixels, flattened, and the digit that each shows."""

    images: np.ndarray
    digits: np.ndarray


@component
def load() -> Samples:
    """Load the 1,797 images."""
    return Samples(*load_digits(return_X_y=True))


@component
def split(samples: Samples, test_size: float = 0.3) -> tuple[Samples, Samples]:
    """Keep a part of the images for the test, with all digits alike in both parts."""
    images, test_images, digits, test_digits = train_test_split(
        *samples, test_size=test_size, stratify=samples.digits, random_state=0
    )
    return Samples(images, digits), Samples(test_images, test_digits)


@component
def fit(model: ClassifierMixin, train: Samples) -> ClassifierMixin:
    """Train a copy of a model."""
    return clone(model).fit(train.images, train.digits)


@component
def score(model: ClassifierMixin, test: Samples) -> float:
    """Return the share of the images that a model reads rightly."""
    return float(model.score(test.images, test.digits))


@pipeline
def model_comparison(test_size: float = 0.3) -> tuple[str, dict[str, float]]:
    """Train all models on the same images; return the name of the best, and all scores.

    Args:
        test_size: the share of the images that no model sees before it is scored.
    """
    train, test = split(load(), test_size)
    fitted = {name: fit(model, train) for name, model in MODELS.items()}
    scores = {name: score(model, test) for name, model in fitted.items()}
    best = max(scores, key=lambda name: scores[name])
    return best, scores


start = time.perf_counter()
run = model_comparison.start()
best, scores = run.result()
elapsed = time.perf_counter() - start
work = sum(step.duration for step in run.steps.values())

print(f"{'model':<22}accuracy")
for name in sorted(scores, key=scores.__getitem__, reverse=True):
    print(f"{name:<22}{scores[name]:8.1%}{'  best' if name == best else ''}")
print(f"\n{len(run.steps)} steps, {work:.1f} s of work in {elapsed:.1f} s")
