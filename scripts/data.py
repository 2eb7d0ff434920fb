"""The command siamese-data, from a checkout: python scripts/data.py --help."""

from siamese.commands.data import main

if __name__ == "__main__":
    main()
