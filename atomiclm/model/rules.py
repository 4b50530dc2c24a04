"""What sizes must satisfy, without torch: constructors ask here, and so does the config validator before anything runs.

Each function returns None or raises ValueError with the argument, the rule and the fix.
"""


def check_positive(name: str, value: int | float) -> None:
    """Raise unless the value is greater than zero."""
    if not value > 0:
        raise ValueError(f"{name}={value} must be greater than 0")


def check_dropout(name: str, value: float) -> None:
    """Raise unless the value is a dropout probability, 0 <= value < 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} must be at least 0 and below 1; 0 switches dropout off")


def check_heads(dim: int, num_heads: int, num_kv_heads: int | None = None, head_dim: int | None = None) -> None:
    """Raise unless heads divide the width (when head_dim is not given) and query heads fall into equal groups.

    A group is the num_heads / num_kv_heads query heads that share one key/value head (Ainslie et al. 2023,
    arXiv 2305.13245). ``num_kv_heads=None`` means num_heads, ``head_dim=None`` means dim / num_heads.
    """
    check_positive("dim", dim)
    check_positive("num_heads", num_heads)
    if head_dim is not None:
        check_positive("head_dim", head_dim)
    elif dim % num_heads:
        raise ValueError(
            f"num_heads={num_heads} does not divide dim={dim}: each head takes dim / num_heads features; "
            f"choose one of {_divisors(dim)}, or set head_dim"
        )
    if num_kv_heads is None:
        return
    check_positive("num_kv_heads", num_kv_heads)
    if num_heads % num_kv_heads:
        raise ValueError(
            f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}: every key/value head serves the same "
            f"number of query heads; choose one of {_divisors(num_heads)}"
        )


def check_rotary(head_dim: int, theta: float) -> None:
    """Raise unless features can be rotated in pairs (even head_dim) by angles that fall with the pair (theta > 1)."""
    if head_dim % 2:
        raise ValueError(
            f"head_dim={head_dim} is odd, but rotary positions turn features in pairs; choose num_heads so that "
            "dim / num_heads is even, set head_dim to an even number, or use position=none or position=learned"
        )
    if not theta > 1:
        raise ValueError(f"theta={theta} must be greater than 1: it is the base of the wavelengths; 10000 is usual")


def check_length(name: str, length: int, max_length: int | None) -> None:
    """Raise when a position scheme with a last position is asked to go past it; None means there is no last one."""
    if max_length is not None and length > max_length:
        raise ValueError(
            f"{length} positions asked of {name}, which has {max_length} (context_length); shorten the input, train "
            "with a larger context_length, or use positions that extend (position=rope or position=none)"
        )


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
