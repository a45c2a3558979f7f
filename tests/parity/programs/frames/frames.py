"""Clean, join and pivot frames, with display options of the program, and write them."""

import warnings

import pandas as pd

from pipedeco import component, pipeline, value

pd.set_option("display.precision", 2)
pd.set_option("display.max_columns", 3)


@component
def read(path):
    return pd.read_csv(path, parse_dates=["day"])


@component
def clean(frame):
    missing = int(frame.celsius.isna().sum())
    warnings.warn(f"{missing} values are missing", RuntimeWarning, stacklevel=1)
    filled = frame.assign(kelvin=frame.celsius.interpolate() + 273.15)
    print(filled.head(2).to_string())
    return filled


@component
def pivot(frame):
    table = frame.pivot_table(index="day", columns="station", values="kelvin")
    print(table)
    return table


@component
def write(table, path):
    table.to_csv(path, float_format="%.2f")
    return table.mean().round(3).to_dict()


@pipeline
def main(path):
    frame = clean(read(path))
    cold = value(frame)
    cold = cold[cold.celsius < 0]
    cold.to_json("cold.json", orient="records", date_format="iso")
    return write(pivot(frame), "pivot.csv"), frame.shape, frame.celsius.max()


if __name__ == "__main__":
    print(*main("weather.csv"))
