"""The commands of `saefari`, a file each; NAME_options.py holds the options of NAME.py."""
