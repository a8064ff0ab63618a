"""What people see: characters that steer a terminal or hide in a page are shown by their code points, never acted out."""

from nertune.console.visible import escaped, visible

__all__ = ["escaped", "visible"]
