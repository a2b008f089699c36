"""What a run is, where it lies, and how it is trained, evaluated and used."""
