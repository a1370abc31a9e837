"""The fields of the benchmark's config, checked before anything is timed."""

import ml_collections

from experiments import schema
from experiments.runtime.errors import ConfigError


def check(config: ml_collections.ConfigDict) -> None:
    """Check every field, and what those of one workload say together.

    Raises:
      ConfigError: a value cannot be used; the message names the field and the remedy.
    """
    schema.check(config, schema.named(config, schema.BENCHMARK))
    sized = {"": config, "fair.": config.fair, "scaling.": config.scaling}
    sized |= {f"zoo.{name}.": sizes for name, sizes in config.zoo.items()}
    for where, sizes in sized.items():
        if sizes.valid_rows >= sizes.rows:
            raise ConfigError(
                f"{where}valid_rows must be below {where}rows, {sizes.rows}, got"
                f" {sizes.valid_rows}"
            )
        num_train = sizes.rows - sizes.valid_rows
        if sizes.get("batch", 1) > num_train:
            raise ConfigError(
                f"{where}batch must be at most the {num_train} rows that are trained"
                f" on, got {sizes.batch}"
            )
