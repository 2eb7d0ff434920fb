"""From a checked configuration to a trained, evaluated and recorded run: :func:`siamese.training.run.train` is the
story."""
