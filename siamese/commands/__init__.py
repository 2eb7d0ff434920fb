"""The commands, as console scripts and behind ``train.py`` and ``scripts/``. Imported without torch."""
