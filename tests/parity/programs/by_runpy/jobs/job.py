import sys
from pathlib import Path

from parts import cube

from pipedeco import component, pipeline


class Result(list):
    pass


@component
def compute(n):
    print(f"{Path(sys.argv[0]).name} {sys.argv[1:]} {Path(__file__).parent.name}")
    return Result(cube(i) for i in range(n))


@pipeline
def main(n):
    return compute(n)


if __name__ == "__main__":
    made = main(int(sys.argv[2]))
    print(made, type(made) is Result)
