"""Which regions sold most, from a CSV file to a text file."""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

from pipedeco import component, pipeline


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--currency", default="$")
    parser.add_argument("--output", type=Path, default=Path("report/top.txt"))
    return parser.parse_args()


@component
def read_rows(source):
    with source.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@component
def revenue_by_region(rows):
    totals = defaultdict(float)
    for row in rows:
        totals[row["region"]] += int(row["units"]) * float(row["price"])
    print(f"{len(totals)} regions", file=sys.stderr)
    return dict(totals)


@component
def render(totals, top, currency):
    ranked = sorted(totals.items(), key=lambda item: -item[1])[:top]
    return "\n".join(f"{name:<8}{currency}{total:>8.2f}" for name, total in ranked)


@pipeline
def report(source, top, currency):
    return render(revenue_by_region(read_rows(source)), top, currency)


def main():
    arguments = parse_arguments()
    text = report(arguments.source, arguments.top, arguments.currency)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
