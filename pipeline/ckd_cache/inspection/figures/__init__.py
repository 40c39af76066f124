"""Figures of a target that add up over chunks."""
