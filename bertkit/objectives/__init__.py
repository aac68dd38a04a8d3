"""What a step learns: rows with answers, and later texts that teach themselves."""
