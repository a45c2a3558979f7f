from infra import registry


@registry.register("double")
def double(x):
    return 2 * x


@registry.register("negate")
def negate(x):
    return -x
