"""From embedded images to the evaluation of a run: measures, arrays, entries of summary.json, figures and a table."""
