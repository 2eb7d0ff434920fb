"""The command siamese-search, from a checkout: python scripts/search.py --help."""

from siamese.commands.search import main

if __name__ == "__main__":
    main()
