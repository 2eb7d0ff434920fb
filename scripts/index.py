"""The command siamese-index, from a checkout: python scripts/index.py --help."""

from siamese.commands.index import main

if __name__ == "__main__":
    main()
