"""Readers of the formats that volumes come in, one file each; `xoctnorm.opening` chooses among them."""
