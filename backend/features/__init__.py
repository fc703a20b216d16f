"""Features of a dictionary: logit lens, cosines, nearest neurons, removal effects, direct feature
attribution, feature map."""
