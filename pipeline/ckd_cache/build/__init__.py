"""From a recipe to a finished cache: what is due, and running it."""
