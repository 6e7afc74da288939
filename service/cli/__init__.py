"""The command line: `main` holds the application, the other modules its commands by group."""
