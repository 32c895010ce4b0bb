"""A page on which people look through what machines proposed: accept, reject, correct, box by box."""
