"""`python -m streams` is `towpath`: the same command where no script is installed."""

from streams.cli import main

if __name__ == "__main__":
    main()
