"""Tests of the configuration: from YAML text to the book, and every mistake."""
