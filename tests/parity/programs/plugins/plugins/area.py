from dataclasses import dataclass

from pipedeco import component

UNITS = "m2"


@dataclass
class Area:
    width: float
    height: float

    def __str__(self):
        return f"{self.width * self.height} {UNITS}"


@component
def run(x):
    return Area(x, 2)
