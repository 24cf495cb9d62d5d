"""`python -m pingdata_async`."""

from pingdata_async.cli import main

if __name__ == "__main__":
    main()
