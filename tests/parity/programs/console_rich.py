"""A console of rich at the top of the script, used by steps and by the body."""

from rich.console import Console
from rich.table import Table

from pipedeco import component, pipeline

console = Console(width=40, color_system=None)
errors = Console(stderr=True, width=40)


@component
def measure(name):
    console.print(f"[bold]measuring[/bold] {name}")
    errors.log if False else errors.print(f"careful with {name}")
    return len(name)


@component
def table(sizes):
    made = Table("name", "size")
    for name, size in sizes.items():
        made.add_row(name, str(size))
    console.rule("sizes")
    return made


@pipeline
def main(names):
    sizes = {name: measure(name) for name in names}
    return table(sizes)


if __name__ == "__main__":
    console.print(main(["wool", "cotton"]).row_count)
