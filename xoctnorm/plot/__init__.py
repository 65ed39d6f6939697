"""Pictures of volumes and of what was fitted, one file for each; matplotlib is imported where it is used."""
