"""`python -m pipedeco` is the `pipedeco` command."""

from pipedeco.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
