"""Arguments and values are copies: marks that are compared by `is`, and hashes: README's Limits."""

from pipedeco import component, pipeline

MISSING = object()
KEYS = [f"key-{i}" for i in range(64)]


@component
def is_missing(x):
    return x is MISSING


@component
def shards(keys):
    return [hash(key) % 8 for key in keys]


@pipeline
def main():
    print("missing", is_missing(MISSING))
    return shards(KEYS) == [hash(key) % 8 for key in KEYS]


if __name__ == "__main__":
    print("same hashes", main())
