"""Pieces of torch that teachers and students share."""
