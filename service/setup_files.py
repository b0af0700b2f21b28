"""Files that settings name: YAML or JSON, made into a value or refused in one line."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from service.kubernetes.site import Cluster
from service.settings import Settings, SettingsError


def read_setup[Model: BaseModel](model: type[Model], variable: str, path: Path, *, secret: bool = False) -> Model:
    """The value that a file describes; what it leaves out has its default.

    Raises SettingsError naming the variable, the file, the field, and, unless `secret`, what stands there.
    """
    where = f"{variable}={str(path)!r}"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return model.model_validate({} if document is None else document)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is no YAML" + ("" if secret else f": {error}")) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "it"
        given = "" if secret else f" (it is {first['input']!r})"
        raise SettingsError(f"{where}: {field}: {first['msg']}{given}") from error


def cluster_of(settings: Settings) -> Cluster:
    """The cluster for which manifests are rendered. Raises SettingsError."""
    file = settings.cluster_file
    return read_setup(Cluster, "VISHWAMAI_CLUSTER_FILE", file) if file else Cluster()
