"""From a model directory to distributions at slots."""
