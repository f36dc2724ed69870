"""`securedelivery`, also as `python -m securedelivery`."""

import sys


def main() -> None:
    """The console script. Exit codes: 0 done, 1 refused, 2 usage, 3 connection or certificate."""
    try:
        from securedelivery.cli.main import run  # noqa: PLC0415 -- Ctrl-C while importing is no traceback either

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
