"""Manage many experiments: update them, add and change runs, list what ran, and check them."""
