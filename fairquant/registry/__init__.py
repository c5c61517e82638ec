"""Components by role and name; the hooks of plugins, their discovery, the template of a new one."""

from fairquant.registry.discovery import Plugins, discover
from fairquant.registry.hookspecs import hookimpl
from fairquant.registry.registry import ROLES, Entry, Registrar, Registry, Role

__all__ = ["ROLES", "Entry", "Plugins", "Registrar", "Registry", "Role", "discover", "hookimpl"]
