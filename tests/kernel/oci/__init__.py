"""The same config.json through runc, crun and pycontain, and what the process inside really has, field by field."""
