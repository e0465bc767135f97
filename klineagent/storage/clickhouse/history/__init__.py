"""Tables `imports` and `corrections`, and files of the archive that the engine reads itself."""
