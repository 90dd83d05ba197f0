"""`python -m rsir` is `rsir`."""

from rsir.cli import main

if __name__ == "__main__":
    main()
