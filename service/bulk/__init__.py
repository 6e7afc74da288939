"""Recognition of many files without HTTP, here or on Ray, into rows of JSON lines or Parquet or into documents."""
