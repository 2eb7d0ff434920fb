"""The command siamese-tune, from a checkout: python scripts/tune.py --help."""

from siamese.commands.tune import main

if __name__ == "__main__":
    main()
