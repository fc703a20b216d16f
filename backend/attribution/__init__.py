"""Attribution: how much each feature contributes to a target metric, estimated from gradients at
hook points or measured by exact ablation."""
