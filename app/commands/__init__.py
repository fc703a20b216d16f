"""What the commands of `saefari` do, one file each; `app.cli` holds their options."""
