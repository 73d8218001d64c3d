"""The study of docs/study.md: every method against plain training, over seeds, on four settings."""
