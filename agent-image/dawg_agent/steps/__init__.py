"""The built-in steps that agents carry out: one file each, ``carry_out(inputs, about)`` → what came of it."""
