"""The parts of docs/ that the code knows better than people: reasons, commands, metrics."""
