"""Accuracy, calibration and speed, measured on labelled pictures. Imported by the command line only."""
