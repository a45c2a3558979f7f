"""A parameter study whose results fill tables and containers, as results of plain calls do."""

from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from dataclasses import asdict, dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from pipedeco import component, pipeline, value


@dataclass
class Trial:
    name: str
    score: float = 0.0
    notes: list = field(default_factory=list)


class Board:
    """Keeps the best of each name."""

    __slots__ = ("best",)

    def __init__(self):
        self.best = {}

    def note(self, name, score):
        self.best[name] = max(score, self.best.get(name, 0))


@component
def score(x):
    return x * 1.5


@component
def grade(x):
    return "good" if x > 3 else "bad"


@component
def summary(table):
    return f"{table['score'].sum():.1f} {table['score'].dtype} {list(table['grade'])}"


@component
def facts(x):
    return {"x": x, "square": x * x}


@pipeline
def tables(n):
    table = pd.DataFrame({"x": range(n)})
    table["score"] = value([score(x) for x in table["x"]])
    table = table.assign(grade=value([grade(x) for x in table["x"]]))
    table["last"] = 0.0
    table.at[n - 1, "last"] = value(score(10))
    table.loc[0, "last"] = score(20) + 0
    rows = pd.DataFrame([{**value(facts(x)), "twice": score(x) + 0} for x in range(2)])
    print(summary(table) + "")
    print(rows.to_dict("list"))
    return table


@pipeline
def arrays():
    cells = np.empty((2, 2), dtype=object)
    for i, j in np.ndindex(2, 2):
        cells[i, j] = score(2 * i + j)
    series = pd.Series([score(k) + 0 for k in range(2)], index=list("ab"), dtype=object)
    return cells, series


@pipeline
def containers():
    recent = deque(maxlen=2)
    groups = defaultdict(list)
    board = Board()
    for x in range(4):
        recent.append(score(x))
        groups["even" if x % 2 == 0 else "odd"].append(score(x))
        board.note("a", score(x))
    trials = [Trial(name, score(k)) for k, name in enumerate("xy")]
    trials[0].notes.append(grade(9))
    layers = ChainMap({"top": score(1)}, {"top": 0, "base": score(2)})
    place = SimpleNamespace(score=score(5), ordered=OrderedDict(z=score(6), a=score(7)))
    return recent, groups, board, trials, layers, place, Counter(good=2, bad=score(4))


def main():
    table = tables(4)
    print(table.to_string(), [str(dtype) for dtype in table.dtypes])
    cells, series = arrays()
    print(cells.tolist(), series.to_dict(), {type(cell).__name__ for cell in cells.flat})
    recent, groups, board, trials, layers, place, counts = containers()
    print(list(recent), dict(groups), board.best)
    print(trials, asdict(trials[1]), replace(trials[0], name="z"))
    print(dict(layers), vars(place), counts)


if __name__ == "__main__":
    main()
