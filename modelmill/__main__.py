"""`python -m modelmill` is `modelmill`."""

from modelmill.cli import main

if __name__ == "__main__":
    main()
