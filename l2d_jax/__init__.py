"""Learning to defer in JAX: import the module that holds the idea, by its name."""
