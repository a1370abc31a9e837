"""One file an experiment; ``get_config(scale)`` gives its settings."""
