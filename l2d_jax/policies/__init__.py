"""What is decided after training, on validation data."""
