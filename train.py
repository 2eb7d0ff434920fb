"""Train an embedding network: python train.py [group=option ...] [key=value ...]; --help tells more."""

from siamese.commands.train import main

if __name__ == "__main__":
    main()
