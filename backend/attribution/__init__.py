"""Which features a number depends on: gradients at hook points, and exact ablation beside them."""
