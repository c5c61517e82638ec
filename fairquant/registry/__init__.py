"""Names to components: the registry, the hooks plugins implement, and their discovery."""

from fairquant.registry.discovery import Plugins, discover
from fairquant.registry.hookspecs import hookimpl
from fairquant.registry.registry import ROLES, Entry, Registrar, Registry, Role

__all__ = ["ROLES", "Entry", "Plugins", "Registrar", "Registry", "Role", "discover", "hookimpl"]
