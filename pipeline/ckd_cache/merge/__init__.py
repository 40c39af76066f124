"""Prediction weights and mixtures of several teachers."""
