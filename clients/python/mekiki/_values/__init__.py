"""What goes in and comes out: frozen values with numpy arrays, each beside its conversion from and to its proto."""
