"""What the user of a program can mend, or wait for."""


class ConfigError(ValueError):
    """A config field has a value that cannot be used; the message names the field."""


class InUseError(RuntimeError):
    """Another program uses the work folder; the same command works once it ends."""
