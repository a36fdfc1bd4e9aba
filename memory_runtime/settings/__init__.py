"""The one settings object, `SMFSettings`, and where its values come from: environment, mounted secrets, file, defaults.

The environment wins over mounted secrets, these over the file, and the file over the defaults. May import model.
"""

from memory_runtime.settings.loading import LoadedSettings, files_stamp, load_settings
from memory_runtime.settings.reloading import RELOADABLE, reload_settings
from memory_runtime.settings.schema import SettingsError, SMFSettings

__all__ = [
    "RELOADABLE",
    "LoadedSettings",
    "SMFSettings",
    "SettingsError",
    "files_stamp",
    "load_settings",
    "reload_settings",
]
