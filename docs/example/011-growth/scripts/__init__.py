"""Scripts of this experiment."""
