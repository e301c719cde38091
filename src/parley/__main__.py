"""`python -m parley` and the `parley` command."""

from parley.cli.main import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
