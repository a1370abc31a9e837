"""What the user of a program can mend."""


class ConfigError(ValueError):
    """A config field has a value that cannot be used; the message names the field."""
