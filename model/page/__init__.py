"""From a picture of a page to its lines in reading order. May import `model.recognition` and what lies below it."""
