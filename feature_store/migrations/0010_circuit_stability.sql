-- Over prompts, the share of bootstrap draws in which an edge holds; NULL where there is none.
ALTER TABLE circuit_edge ADD COLUMN stability DOUBLE;
