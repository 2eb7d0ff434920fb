"""The command siamese-models, from a checkout: python scripts/models.py --help."""

from siamese.commands.models import main

if __name__ == "__main__":
    main()
