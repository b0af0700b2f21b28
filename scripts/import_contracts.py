"""A kind of contract that import-linter lacks: everything a package imports is on a list."""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ImportsOnly(Contract):
    """A package imports itself, the standard library and what is allowed, and nothing else."""

    type_name = "imports_only"

    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare each direct import of each module of the package with the list."""
        package: Any = self.package
        allowed: Any = self.allowed
        fine = {*allowed, *sys.stdlib_module_names}
        others = [
            f"{module} imports {imported}"
            for module in sorted({package, *graph.find_descendants(package)})
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            if not f"{imported}.".startswith(f"{package}.") and imported.partition(".")[0] not in fine
        ]
        return ContractCheck(kept=not others, metadata={"others": others})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """List the imports that are not allowed."""
        for line in check.metadata["others"]:
            output.print_error(line)
