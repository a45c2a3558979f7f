"""Read three sources of which two make trouble: retries, try/except, and a step that may fail.

    python examples/03_unreliable_sources.py
    pipedeco run examples/03_unreliable_sources.py --failures 1
    pipedeco show latest

Oslo's line drops twice, so its step is tried three times.  Quito's data is broken: no retry mends
that, so the body catches the error and takes the climate's mean instead.  The folder for the copy
does not exist: that step is allowed to fail, and the run completes without it.
"""

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from pipedeco import component, pipeline, value

SOURCES = {  # what the stations would send: degrees Celsius at 0, 6, 12 and 18 o'clock
    "lima": '[{"hour": 0, "degrees": 17.5}, {"hour": 6, "degrees": 16.9},'
    ' {"hour": 12, "degrees": 20.2}, {"hour": 18, "degrees": 18.6}]',
    "oslo": "hour,degrees\n0,-4.5\n6,-6.0\n12,1.5\n18,-1.0\n",
    "quito": "hour,degrees\n0,9.1\n6,ERR 17\n12,19.0\n18,13.2\n",
}
CLIMATE = {"lima": 19.2, "oslo": 6.3, "quito": 13.9}


def drops(tries: Path) -> int:
    """Count one more try in a file, and return how many there were before."""
    with tries.open("a") as file:
        file.write("x")
    return tries.stat().st_size - 1


@component(retries=3, retry_delay=lambda attempt: 0.05 * 2**attempt, retry_on=ConnectionError)
def fetch(city: str, folder: Path, failures: int) -> str:
    """Fetch what a station has sent; the line to Oslo drops at the first tries."""
    if city == "oslo" and drops(folder / city) < failures:
        raise ConnectionResetError(f"the line to {city} dropped")
    return SOURCES[city]


@component(retries=3, retry_on=ConnectionError)  # a ValueError is worth no second try
def parse(text: str) -> list[float]:
    """Read JSON or CSV."""
    rows = json.loads(text) if text.startswith("[") else csv.DictReader(text.splitlines())
    return [float(row["degrees"]) for row in rows]


@component
def climate(city: str) -> list[float]:
    """Return what is usual there."""
    return [CLIMATE[city]]


@component(allow_failure=True)
def archive(readings: Mapping[str, list[float]], folder: Path) -> None:
    """Keep a copy."""
    (folder / "readings.json").write_text(json.dumps(readings))


@component
def summary(readings: Mapping[str, list[float]]) -> dict[str, float]:
    """Return each city's mean."""
    return {city: round(mean(degrees), 2) for city, degrees in readings.items()}


@pipeline
def temperatures(failures: int = 2) -> dict[str, float]:
    """Return the mean temperature of each city.

    Args:
        failures: how often the line to Oslo drops before it holds; more than 3 fail the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        texts = {}
        for city in SOURCES:
            named = fetch.with_options(name=f"fetch {city}")
            texts[city] = named(city, Path(folder), failures)
        readings = {}
        for city, text in texts.items():
            try:
                readings[city] = value(parse(text))  # the failure is raised where the value is read
            except ValueError as error:
                print(f"{city}: {error}; the climate's mean stands in")
                readings[city] = climate(city)
        copied = archive(readings, Path(folder, "missing"))
        return value(summary.with_options(depends_on=[copied])(readings))


run = temperatures.start()
means = run.result()
for city, degrees in means.items():
    print(f"{city:<8}{degrees:6.2f} °C")

print(f"\nthe run is {run.status}")
print(f"{'step':<14}{'state':<11}tries  error")
for step in run.steps.values():
    error = (step.error or "").partition(":")[0]
    print(f"{step.name:<14}{step.state:<11}{len(step.attempts):5}  {error}".rstrip())
print("\nthe tries to fetch oslo")
for attempt in run.steps["fetch oslo"].attempts:
    print(f"{attempt.number}  {attempt.error or attempt.state}")
