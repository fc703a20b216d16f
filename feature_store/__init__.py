"""Storage layer of Saefari: records, errors, and the DuckDB files of a store. It imports no
other Saefari package."""
