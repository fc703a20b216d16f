"""Export and import of files: Saefari's own formats for labels, lists and explanations, and
those of Neuronpedia and delphi."""
