"""The parts of the Ablate page: what is asked, the runs, and how each answer is drawn."""
