"""Looking into a cache: lazy arrays, summaries, text."""
