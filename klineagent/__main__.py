"""`python -m klineagent`."""

from klineagent.cli import main

if __name__ == "__main__":
    main()
