"""`from infra import engine`: a script that uses the objects of its modules by their names."""

import infra
import rules  # noqa: F401
from infra import MISSING, engine, log, registry, request

from pipedeco import component, pipeline


@component
def ask(query):
    return engine.scalar(query)


@component
def apply(name, x=MISSING):
    if x is MISSING:
        return sorted(registry)
    log.warning("apply %s for %s", name, request.get())
    return registry[name](x)


@component
def same():
    return engine is infra.engine, MISSING is infra.MISSING


@pipeline
def main():
    print(*apply("all"), *same())
    return ask("select 6 * 7") + apply("double", 4) + apply("negate", 1)


print(main())
