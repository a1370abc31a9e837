"""An experiment on many processes: of one machine, or of a Slurm cluster."""
