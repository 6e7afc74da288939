"""Decoding in processes of their own, with limits that the operating system enforces, and the threads that wait."""
