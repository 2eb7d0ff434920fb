"""The command siamese-losses, from a checkout: python scripts/losses.py --help."""

from siamese.commands.losses import main

if __name__ == "__main__":
    main()
