"""Where recipes and method presets are: ours, and those that plugins bring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from fairquant.errors import UserError, suggestion
from fairquant.recipe.lines import Content
from fairquant.registry.registry import Registry

UNTRAINED = "-ptq"


def recipes_folder() -> Path:
    """`recipes/` of the checkout (editable install) or of the installed package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def library(registry: Registry | None = None) -> Library:
    """Our recipes, then those of the registry's plugins; of two with one name the first counts."""
    return Library((recipes_folder(), *(registry.recipe_folders if registry is not None else ())))


@dataclass(frozen=True)
class Library:
    """Folders of recipes (`*.yaml`), each with method presets (`methods/*.yaml`)."""

    folders: tuple[Path, ...]

    def recipes(self) -> dict[str, Path]:
        """File name, such as quickstart.yaml or studies/sensitivity.yaml, to file."""
        studies = {f"studies/{name}": file for name, file in self._files("studies/*.yaml").items()}
        return self._files("*.yaml") | studies

    def methods(self) -> dict[str, Path]:
        """Preset name, such as fq-baq, to file."""
        return {Path(name).stem: file for name, file in self._files("methods/*.yaml").items()}

    def method_names(self) -> list[str]:
        """Every preset, and of each that quantizes the same without training, `NAME-ptq`."""
        names = set(self.methods())
        return sorted(names | {f"{name}{UNTRAINED}" for name in names if name != "fp32"})

    def load_method(self, name: str) -> Content:
        """The sections that a preset fills. `NAME-ptq` is NAME as post-training quantization: nothing is trained."""
        files = self.methods()
        names = self.method_names()
        if name not in names:
            known = f"{', '.join(files)}; NAME{UNTRAINED}: untrained"
            raise UserError(f"no method is called {name!r}.{suggestion(name, names)} Known: {known}")
        file = files.get(name, files.get(name.removesuffix(UNTRAINED)))
        assert file is not None
        content: Content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        if name in files:
            return content
        sections = {key: value for key, value in content.items() if key != "regularizers"}
        return sections | {"train": {"post_training": True}}

    def find(self, recipe: str | os.PathLike[str]) -> Path:
        """The file; a name such as `quickstart` or `recipes/quickstart.yaml` also finds the recipes of the library."""
        file = Path(recipe)
        if file.is_file():
            return file
        shipped = self.recipes()
        name = file.with_suffix(".yaml").as_posix().removeprefix("recipes/")
        if name in shipped:
            return shipped[name]
        names = [f"recipes/{name}" for name in shipped]
        raise UserError(f"no recipe {str(recipe)!r}.{suggestion(str(recipe), names)} Shipped: {', '.join(names)}")

    def _files(self, pattern: str) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for folder in self.folders:
            for file in sorted(folder.glob(pattern)):
                files.setdefault(file.name, file)
        return dict(sorted(files.items(), key=lambda item: Path(item[0]).stem))
