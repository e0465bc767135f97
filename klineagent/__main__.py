"""The entry point of `klineagent` and `python -m klineagent`."""

# Imports nearly nothing: until `main` runs, Ctrl-C would print a stack trace.
import sys


def main() -> None:
    """Run the command, and end the process with its exit code."""
    try:
        from klineagent.core.interrupts import deadly_interrupts

        with deadly_interrupts():
            from klineagent.cli.group import run_command
        exit_code = run_command()
    except KeyboardInterrupt:
        exit_code = 130  # INTERRUPTED, whose module may not be imported yet
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
