# command: python command_line.py --verbose greet --times 2 Ada
"""A tool with subcommands of click, whose commands call pipelines."""

import click

from pipedeco import component, pipeline


@component
def greeting(name, times):
    click.echo(f"greeting {name}", err=True)
    return " ".join(["hello"] * times + [name])


@component
def decorate(text, style):
    return click.style(text, fg=style) if style else text


@pipeline
def greet_all(names, times):
    return [decorate(greeting(name, times), None) + "" for name in names]


@click.group()
@click.option("--verbose", is_flag=True)
@click.pass_context
def cli(context, verbose):
    context.obj = {"verbose": verbose}


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--times", default=1)
@click.pass_obj
def greet(settings, names, times):
    for line in greet_all(names, times):
        click.secho(line, bold=True)
    if settings["verbose"]:
        raise click.ClickException("verbose is not supported")


if __name__ == "__main__":
    cli()
