"""`gridctl model`: the common verbs, and models packaged, pushed and pulled.

Composes the noun from the verbs of its rooms; holds none itself.
"""

from __future__ import annotations

from gridctl.cli.kind import kind_app
from gridctl.cli.modelcheck import variant, verify
from gridctl.cli.modelpackage import package
from gridctl.cli.modeltransfer import pull, push
from gridctl.cli.optimize import optimize
from gridctl.resources import Model

app = kind_app(Model)
app.command()(package)
app.command()(push)
app.command()(pull)
app.command()(optimize)
app.command()(verify)
app.command()(variant)
