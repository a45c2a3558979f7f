"""A program that tells by its exit code how it went, with a hook for what nobody caught."""

import sys

from pipedeco import component, pipeline


class ConfigurationError(Exception):
    exit_code = 78


def complain(kind, error, traceback):
    depth = 0
    while traceback:
        depth, traceback = depth + 1, traceback.tb_next
    print(f"fatal: {kind.__name__}: {error}", depth > 0, file=sys.stderr)


sys.excepthook = complain


@component
def load(name):
    if name == "bad":
        raise ConfigurationError(f"{name} is no configuration")
    return {"name": name}


@component
def validate(config):
    if "port" not in config:
        raise KeyError("port")
    return config


@pipeline
def deploy(names):
    loaded = 0
    for name in names:
        try:
            loaded += len(load(name))
        except ConfigurationError as error:
            print(error)
            sys.exit(error.exit_code)
    return loaded


@pipeline
def strict(name):
    return validate(load(name))["port"] + 0


def main():
    try:
        deploy(["good", "bad", "never"])
    except SystemExit as leaving:
        print("leaving with", leaving.code)
    strict("good")


if __name__ == "__main__":
    main()
