# command: TZ=Europe/Berlin STAGE=outer python ambient_main.py
"""Time zone, locale, decimals, environment, umask and folder, set in main() before the run."""

import datetime
import decimal
import locale
import os
import sys
import time
from pathlib import Path

from pipedeco import component, pipeline


@component
def clock(stamp):
    local = datetime.datetime.fromtimestamp(stamp)
    return f"{local:%Y-%m-%d %H:%M} {time.tzname[0]} {os.environ['TZ']}"


@component
def divide(a, b):
    return decimal.Decimal(a) / decimal.Decimal(b)


@component
def inexact(text):
    return decimal.Decimal(text).sqrt()


@component
def surroundings():
    return os.environ["STAGE"], os.environ.get("REMOVED"), locale.setlocale(locale.LC_CTYPE)


@component
def write(name):
    Path(name).write_text("written\n")
    return oct(Path(name).stat().st_mode & 0o777), Path(name).resolve().parent.name


@component
def limits():
    return sys.getrecursionlimit(), sys.getswitchinterval(), sys.argv[1:]


@pipeline
def main():
    os.environ["STAGE"] = "body"
    local = clock(0)
    print(local, divide(1, 7), *surroundings())
    print(*write("out.txt"), *limits())
    decimal.getcontext().traps[decimal.Inexact] = True
    try:
        inexact("2").is_nan()
    except decimal.Inexact:
        print("inexact is trapped")


if __name__ == "__main__":
    os.environ |= {"TZ": "Asia/Tokyo", "REMOVED": "x"}
    time.tzset()
    del os.environ["REMOVED"]
    locale.setlocale(locale.LC_ALL, "C")
    decimal.getcontext().prec = 5
    decimal.getcontext().rounding = decimal.ROUND_DOWN
    os.umask(0o077)
    Path("inner").mkdir()
    os.chdir("inner")
    sys.setrecursionlimit(1500)
    sys.setswitchinterval(0.01)
    sys.argv[1:] = ["--set", "later"]
    main()
