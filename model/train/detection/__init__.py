"""Training data of the line detector: page windows, DB target maps and the DB loss."""
