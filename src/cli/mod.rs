//! What was typed, turned into requests; one file per subcommand.
