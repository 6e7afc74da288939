"""Accuracy, calibration and speed on labelled images. Imported by the command line and by training only."""
