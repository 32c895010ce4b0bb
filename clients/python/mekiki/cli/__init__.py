"""The command line `mekiki`."""


def main() -> None:
    """Runs the command line; `mekiki` and `python -m mekiki.cli` come here."""
    from mekiki.cli.app import run  # noqa: PLC0415 -- whoever imports the SDK needs neither typer nor rich

    run()
