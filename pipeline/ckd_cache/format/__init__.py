"""The only code that knows bytes: specification, manifest, journal, readers and writers."""
