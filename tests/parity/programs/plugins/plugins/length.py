from pipedeco import component


def convert(x):
    return x * 100


@component
def run(x):
    return f"{convert(x)} cm"
