"""`spec compare`: heads trained with several seeds, measured on the same texts."""
