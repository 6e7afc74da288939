"""Recognition of many files outside HTTP: sources, row files, Parquet, Ray Data."""
