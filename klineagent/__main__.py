"""The way in: `klineagent`, and `python -m klineagent`."""

# Nearly nothing is imported here: until `main` runs, Ctrl-C would end in a stack trace.
import sys


def main() -> None:
    """Run the command that was typed, and end the process with its exit code."""
    try:
        from klineagent.core.interrupts import deadly_interrupts

        with deadly_interrupts():
            from klineagent.cli.group import run_command
        exit_code = run_command()
    except KeyboardInterrupt:
        exit_code = 130  # INTERRUPTED, which may be what was not imported yet
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
