"""Keep many experiments: update them, add runs, list what ran, and say what is wrong."""
