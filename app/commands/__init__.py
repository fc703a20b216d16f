"""What the commands of `saefari` do, one file each; longer lists of options beside them."""
