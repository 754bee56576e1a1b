"""Make `python -m experiments` the command `experiments`."""

from experiments.cli import main

if __name__ == "__main__":  # a worker imports this file too
    main()
