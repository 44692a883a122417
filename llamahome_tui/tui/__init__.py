"""The terminal application: the face for people; it reads files and drops requests, and never trains."""
