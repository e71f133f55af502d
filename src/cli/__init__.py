"""The command-line kit: option types, output and the frame that every command runs in."""
