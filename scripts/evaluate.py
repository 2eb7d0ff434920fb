"""The command siamese-evaluate, from a checkout: python scripts/evaluate.py --help."""

from siamese.commands.evaluate import main

if __name__ == "__main__":
    main()
