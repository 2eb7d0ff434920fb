"""The command siamese-explore, from a checkout: python scripts/explore.py --help."""

from siamese.commands.explore import main

if __name__ == "__main__":
    main()
