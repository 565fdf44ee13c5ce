"""One subcommand per stage: parses, calls, prints, maps errors to exit codes; no logic."""
