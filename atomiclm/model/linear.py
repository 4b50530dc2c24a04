"""The projection that writes to the residual stream, told apart from the others."""

from typing import ClassVar

from torch import nn

from atomiclm.model.roles import Role


class ResidualLinear(nn.Linear):
    """``nn.Linear`` whose output is added to the residual stream.

    Initialisation scales it with depth and optimizers may treat it apart, so it carries the role "residual".
    """

    roles: ClassVar[dict[str, Role]] = {"weight": "residual"}
