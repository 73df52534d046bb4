"""Transcription: errors of texts that were read, by characters, lengths and pages."""
