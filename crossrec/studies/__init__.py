"""Studies: which runs make a table, and the table."""
