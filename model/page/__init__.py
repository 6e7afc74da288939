"""Page reading: line detection, recognition of the lines, reading order. Import its names from `linewise.model`."""
