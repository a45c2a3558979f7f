"""Tables that are filled with results as they are: README's Limits."""

import pandas as pd

from pipedeco import component, pipeline


@component
def score(x):
    return x * 1.5


@pipeline
def column():
    table = pd.DataFrame({"x": range(2)})
    table["score"] = [score(x) for x in table["x"]]
    print("kept in a column of", table["score"].dtype)
    return table


@pipeline
def cell():
    table = pd.DataFrame({"x": [0.0, 0.0]})
    try:
        table.loc[0, "x"] = score(2)
    except TypeError:
        return "refused"
    return table["x"].sum()


if __name__ == "__main__":
    table = column()
    print(table["score"].tolist(), {type(cell).__name__ for cell in table["score"]})
    print(cell())
