"""The command siamese-accumulation, from a checkout: python scripts/accumulation.py --help."""

from siamese.commands.accumulation import main

if __name__ == "__main__":
    main()
