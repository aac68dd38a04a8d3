"""How fast a recipe trains and answers on this machine, what each switch does to that, and how it grows."""
