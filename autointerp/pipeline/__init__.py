"""Jobs that explain or score many features of a dictionary: feature selection, cost and time
estimates, a worker pool with bounded memory, and a progress log from which an interrupted job
resumes."""
