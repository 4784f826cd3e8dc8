"""Certificates of the node: read from files, watched, and handed to the workers."""
