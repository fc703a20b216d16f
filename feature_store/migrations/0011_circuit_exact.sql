-- The change of the target that exact ablation of a node alone measured; NULL where it was not measured.
ALTER TABLE circuit_node ADD COLUMN exact DOUBLE;
