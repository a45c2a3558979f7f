# command: python script_arguments.py --names a,b --scale 3 -- -x
"""A script without a guard that reads sys.argv as it is run, and whose steps read it, too."""

import argparse
import datetime
import enum
import os
import sys

from pipedeco import component, pipeline


class Kind(enum.Enum):
    LINEAR = "linear"
    CUBIC = "cubic"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--names", type=lambda text: text.split(","))
parser.add_argument("--scale", type=int, default=1)
parser.add_argument("--kind", type=Kind, default=Kind.CUBIC)
parser.add_argument("--wait", type=datetime.timedelta, default=datetime.timedelta(hours=1))
parser.add_argument("rest", nargs="*")
options = parser.parse_args()


@component
def scaled(name):
    return name * options.scale, options.kind is Kind.CUBIC


@component
def program():
    return os.path.basename(sys.argv[0]), sys.argv[1:], parser.prog, options.wait


@component
def parse(words):
    return vars(parser.parse_args(words))


@pipeline
def main(args):
    print(*[tuple(scaled(name)) for name in args.names])
    print(parse(["--scale", "5", "x", "y"])["rest"], *program())
    return args


print(main(options), options.rest)
sys.exit(len(sys.argv))
