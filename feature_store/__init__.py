"""What is remembered: records, errors and the DuckDB files of a store. Imports nothing of ours."""
